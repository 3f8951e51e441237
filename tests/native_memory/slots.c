/* Lists what all slots of loaded objects hold that belong to functions of the C library's allocators. Written
 * apart from the recorder's own reading of ELF, to check it. */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <string.h>

static int is_one_of_theirs(const char *name)
{
    static const char *names[] = {"malloc", "calloc", "realloc", "free", "reallocarray", "posix_memalign",
                                  "aligned_alloc", "memalign", "valloc", "pvalloc", "mmap", "mmap64",
                                  "munmap", "mremap", "dlsym", "dlopen"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) return 1;
    return 0;
}

static int list(struct dl_phdr_info *info, size_t size, void *data)
{
    FILE *file = data;
    ElfW(Addr) symbols = 0, strings = 0, tables[2] = {0}, bytes[2] = {0};
    (void)size;
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
    if (strstr(info->dlpi_name, "vdso") || !symbols || !strings) return 0;
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; tables[t] && i < bytes[t] / sizeof(ElfW(Rela)); i++) {
            const ElfW(Rela) *r = (const ElfW(Rela) *)tables[t] + i;
            const ElfW(Sym) *symbol = (const ElfW(Sym) *)symbols + ELF64_R_SYM(r->r_info);
            const char *name = (const char *)strings + symbol->st_name;
            if (!ELF64_R_SYM(r->r_info) || r->r_addend || !is_one_of_theirs(name)) continue;
            void **slot = (void **)(info->dlpi_addr + r->r_offset);
            fprintf(file, "%s %s %p %p\n", info->dlpi_name[0] ? info->dlpi_name : "main", name, (void *)slot, *slot);
        }
    }
    return 0;
}

int list_slots(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    dl_iterate_phdr(list, file);
    return fclose(file);
}
