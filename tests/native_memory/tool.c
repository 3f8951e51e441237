/* Another tool, as memray or ddprof is one: puts functions of its own into the slots of all loaded objects, and when
 * it leaves, the C library's addresses, whatever was there before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *their_malloc(size_t n) { return malloc(n); }
static void their_free(void *block) { free(block); }

static int put(void **slot, void *value)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = (void *)((uintptr_t)slot & ~(bytes - 1));
    if (mprotect(page, bytes, PROT_READ | PROT_WRITE) != 0) return 0;
    *slot = value;
    return 1;
}

struct visit {
    void *malloc, *free;
    int changed;
};

static int change(struct dl_phdr_info *info, size_t size, void *data)
{
    struct visit *visit = data;
    ElfW(Addr) symbols = 0, strings = 0, tables[2] = {0}, bytes[2] = {0};
    (void)size;
    if (strstr(info->dlpi_name, "libtool.so") || strstr(info->dlpi_name, "vdso") || strstr(info->dlpi_name, "/ld-linux"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        for (ElfW(Dyn) *d = (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr); d->d_tag; d++) {
            if (d->d_tag == DT_SYMTAB) symbols = d->d_un.d_ptr;
            if (d->d_tag == DT_STRTAB) strings = d->d_un.d_ptr;
            if (d->d_tag == DT_RELA) tables[0] = d->d_un.d_ptr;
            if (d->d_tag == DT_RELASZ) bytes[0] = d->d_un.d_val;
            if (d->d_tag == DT_JMPREL) tables[1] = d->d_un.d_ptr;
            if (d->d_tag == DT_PLTRELSZ) bytes[1] = d->d_un.d_val;
        }
    }
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; tables[t] && i < bytes[t] / sizeof(ElfW(Rela)); i++) {
            const ElfW(Rela) *r = (const ElfW(Rela) *)tables[t] + i;
            const ElfW(Sym) *symbol = (const ElfW(Sym) *)symbols + ELF64_R_SYM(r->r_info);
            const char *name = (const char *)strings + symbol->st_name;
            if (!ELF64_R_SYM(r->r_info) || r->r_addend) continue;
            void *value = !strcmp(name, "malloc") ? visit->malloc : !strcmp(name, "free") ? visit->free : NULL;
            if (value) visit->changed += put((void **)(info->dlpi_addr + r->r_offset), value);
        }
    }
    return 0;
}

static struct visit originals;

/* How many slots it has taken. */
int come(void)
{
    /* Not what all who ask are told: in a program that is not position-independent that may be its own entry for
     * the function, which goes by the very slot that is written. */
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    originals.malloc = dlsym(libc, "malloc");
    originals.free = dlsym(libc, "free");
    struct visit visit = {(void *)their_malloc, (void *)their_free, 0};
    dl_iterate_phdr(change, &visit);
    return visit.changed;
}

void leave(void)
{
    dl_iterate_phdr(change, &originals);
}

/* Comes and goes while nobody can look, if the caller holds the GIL; meanwhile all blocks are freed through `put`. */
int come_and_go(void (*put_block)(void *), void **blocks, size_t count)
{
    int changed = come();
    for (size_t i = 0; i < count; i++) put_block(blocks[i]);
    leave();
    return changed;
}
