/* Private memory that no hook ever sees: whole pages from the kernel. */
#ifndef FA_RAW_MEMORY_H
#define FA_RAW_MEMORY_H

#include <stddef.h>

void *raw_memory_map(size_t bytes);              /* zeroed; NULL on failure */
void raw_memory_unmap(void *memory, size_t bytes);

/* What is mapped, for who counts our own share: entry 0, 1, 2 ... 0: there are no more. Another thread may
 * give an entry back at the same time: an empty one has no bytes. */
struct raw_memory {
    const void *memory;
    size_t bytes;
};
int raw_memory_at(unsigned index, struct raw_memory *map);

#endif
