/* Preloaded into a measured process: notes which memory the core maps for itself, so that its
 * resident pages can be counted apart from everybody else's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
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

static void note(uintptr_t address, size_t bytes)
{
    for (int i = 0; i < CAPACITY; i++) {
        if (mappings[i].address && mappings[i].address != address) continue;
        mappings[i] = (struct mapping){address, bytes};
        break;
    }
}

static void forget(uintptr_t address)
{
    for (int i = 0; i < CAPACITY; i++)
        if (mappings[i].address == address) mappings[i].address = 0;
}

/* The next definition of `syscall`, the C library's. */
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    static long (*original)(long, ...);
    if (!original) original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return original(number, a, b, c, d, e, f);
}

/* The core maps its tables by system call. */
long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    long result = call(number, a, b, c, d, e, f);
    int saved = errno;
    if (number == SYS_mmap && result != -1 && called_by_core(__builtin_return_address(0))) note((uintptr_t)result, (size_t)b);
    if (number == SYS_munmap) forget((uintptr_t)a);
    errno = saved;
    return result;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    long result = call(SYS_mmap, (long)address, (long)bytes, protection, flags, file, offset);
    int saved = errno;
    if (result != -1 && called_by_core(__builtin_return_address(0))) note((uintptr_t)result, bytes);
    errno = saved;
    return (void *)result;
}

int munmap(void *address, size_t bytes)
{
    forget((uintptr_t)address);
    return (int)call(SYS_munmap, (long)address, (long)bytes, 0, 0, 0, 0);
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
