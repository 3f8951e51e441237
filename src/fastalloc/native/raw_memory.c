#define _GNU_SOURCE
#include "raw_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* System calls, not the C library's functions: those may be patched, by another tool that has locks. */

void *raw_memory_map(size_t bytes)
{
    int saved = errno;
    long memory = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    errno = saved;
    return memory == -1 ? NULL : (void *)memory;
}

void raw_memory_unmap(void *memory, size_t bytes)
{
    int saved = errno;
    if (memory) syscall(SYS_munmap, memory, bytes);
    errno = saved;
}
