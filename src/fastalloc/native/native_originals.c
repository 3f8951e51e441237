/* What the hooks forward to. */
#define _GNU_SOURCE
#include "native_hooks.h"

#ifdef __GLIBC__

#include <dlfcn.h>
#include <pthread.h>

#include "elf_slots.h"
#include "hooks.h"

void *native_addresses[NATIVE_HOOKS];

/* The definition that calls are bound to is the first in the linker's order. */
static int define(struct dl_phdr_info *info, size_t size, void *data)
{
    struct elf_object object;
    uintptr_t address;
    (void)size, (void)data;
    if (!elf_object_read(info, &object)) return 0;
    for (int i = 0; i < NATIVE_HOOKS; i++) {
        void **original = native_hooks[i].original;
        if (!*original && native_addresses[i] && elf_object_defines(&object, native_hooks[i].name, &address))
            __atomic_store_n(original, address ? (void *)address : native_addresses[i], __ATOMIC_RELEASE);
    }
    return 0;
}

static int known;

static void find(void)
{
    for (int i = 0; i < NATIVE_HOOKS; i++) native_addresses[i] = dlsym(RTLD_DEFAULT, native_hooks[i].name);
    dl_iterate_phdr(define, NULL);
    hooks_order_stores();
    __atomic_store_n(&known, 1, __ATOMIC_RELEASE);
}

int native_originals_known(void)
{
    return __atomic_load_n(&known, __ATOMIC_ACQUIRE);
}

int native_originals_find(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* the hooks may be running, so they never change */
    pthread_once(&once, find);
    return native_original.malloc && native_original.calloc && native_original.realloc && native_original.free &&
           native_original.mmap && native_original.munmap && native_original.mremap && native_original.dlsym;
}

#else
typedef int native_originals_need_glibc;
#endif
