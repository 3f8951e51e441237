#define _GNU_SOURCE
#include "raw_memory.h"

#include <errno.h>
#include <sys/mman.h>

void *raw_memory_map(size_t bytes)
{
    int saved = errno;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    return memory == MAP_FAILED ? NULL : memory;
}

void raw_memory_unmap(void *memory, size_t bytes)
{
    int saved = errno;
    if (memory) munmap(memory, bytes);
    errno = saved;
}
