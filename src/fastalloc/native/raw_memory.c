#define _GNU_SOURCE
#include "raw_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* System calls, not the C library's functions: those may be patched, by another tool that has locks. */

#define KEPT 64 /* there are some ten; what comes beyond is not counted as ours */

static struct raw_memory kept[KEPT];

static void keep(const void *memory, size_t bytes)
{
    for (int i = 0; i < KEPT; i++) {
        const void *none = NULL;
        if (!__atomic_compare_exchange_n(&kept[i].memory, &none, memory, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) continue;
        __atomic_store_n(&kept[i].bytes, bytes, __ATOMIC_RELEASE);
        return;
    }
}

static void forget(const void *memory)
{
    for (int i = 0; i < KEPT; i++) {
        if (__atomic_load_n(&kept[i].memory, __ATOMIC_ACQUIRE) != memory) continue;
        __atomic_store_n(&kept[i].bytes, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&kept[i].memory, NULL, __ATOMIC_RELEASE);
        return;
    }
}

int raw_memory_at(unsigned index, struct raw_memory *map)
{
    if (index >= KEPT) return 0;
    map->memory = __atomic_load_n(&kept[index].memory, __ATOMIC_ACQUIRE);
    map->bytes = __atomic_load_n(&kept[index].bytes, __ATOMIC_ACQUIRE);
    if (!map->memory) map->bytes = 0;
    return 1;
}

void *raw_memory_map(size_t bytes)
{
    int saved = errno;
    long memory = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    errno = saved;
    if (memory == -1) return NULL;
    keep((void *)memory, bytes);
    return (void *)memory;
}

void raw_memory_unmap(void *memory, size_t bytes)
{
    int saved = errno;
    if (!memory) return;
    forget(memory); /* before another mapping can get its address */
    syscall(SYS_munmap, memory, bytes);
    errno = saved;
}
