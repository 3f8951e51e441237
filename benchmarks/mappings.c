/* Preloaded into a measured process: notes which memory the core maps for itself, so that its
 * resident pages can be counted apart from everybody else's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPACITY 1024
static struct mapping {
    uintptr_t address;
    size_t bytes;
} mappings[CAPACITY];

static int called_by_core(void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/fastalloc/_core");
}

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    long result = syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
    if (result != -1 && called_by_core(__builtin_return_address(0)))
        for (int i = 0; i < CAPACITY; i++) {
            if (mappings[i].address && mappings[i].address != (uintptr_t)result) continue;
            mappings[i] = (struct mapping){(uintptr_t)result, bytes};
            break;
        }
    return (void *)result;
}

int munmap(void *address, size_t bytes)
{
    for (int i = 0; i < CAPACITY; i++)
        if (mappings[i].address == (uintptr_t)address) mappings[i].address = 0;
    return (int)syscall(SYS_munmap, address, bytes);
}

/* Copies address and length of each mapping to `to`; gives how many. */
int mappings_of_core(uint64_t *to, int capacity)
{
    int count = 0;
    for (int i = 0; i < CAPACITY && count < capacity; i++)
        if (mappings[i].address) {
            to[2 * count] = mappings[i].address;
            to[2 * count++ + 1] = mappings[i].bytes;
        }
    return count;
}
