/* Private memory that no hook ever sees: whole pages from the kernel. */
#ifndef FA_RAW_MEMORY_H
#define FA_RAW_MEMORY_H

#include <stddef.h>

void *raw_memory_map(size_t bytes);              /* zeroed; NULL on failure */
void raw_memory_unmap(void *memory, size_t bytes);

#endif
