#define _GNU_SOURCE
#include <features.h>

#ifdef __GLIBC__ /* elsewhere nothing is patched: see patches.h */

#include "elf_slots.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#define JUMP_SLOT R_X86_64_JUMP_SLOT
#define GLOBAL_DATA R_X86_64_GLOB_DAT
#define ABSOLUTE R_X86_64_64
#elif defined(__aarch64__)
#define JUMP_SLOT R_AARCH64_JUMP_SLOT
#define GLOBAL_DATA R_AARCH64_GLOB_DAT
#define ABSOLUTE R_AARCH64_ABS64
#endif

int elf_object_holds(const struct elf_object *object, uintptr_t address, uint32_t flags)
{
    for (int i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        if (segment->p_type != PT_LOAD || (segment->p_flags & flags) != flags) continue;
        if (address - (object->base + segment->p_vaddr) < segment->p_memsz) return 1;
    }
    return 0;
}

/* The linker has put addresses in place of offsets in most objects' dynamic section, not in the vDSO's. */
static uintptr_t address_of(const struct elf_object *object, ElfW(Addr) value)
{
    return value < object->base ? object->base + value : value;
}

static const void *readable(const struct elf_object *object, uintptr_t address, size_t bytes)
{
    if (!address || !elf_object_holds(object, address, PF_R)) return NULL;
    if (bytes && !elf_object_holds(object, address + bytes - 1, PF_R)) return NULL;
    return (const void *)address;
}

static void find_relro(struct elf_object *object)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        if (segment->p_type != PT_GNU_RELRO) continue;
        uintptr_t start = object->base + segment->p_vaddr; /* rounded as the linker rounds it */
        object->relro_start = start & ~(page - 1);
        object->relro_end = (start + segment->p_memsz) & ~(page - 1);
    }
}

int elf_object_read(const struct dl_phdr_info *info, struct elf_object *object)
{
    const ElfW(Dyn) *dynamic = NULL;
    uintptr_t table[2] = {0, 0};
    size_t bytes[2] = {0, 0};
    uintptr_t symbols = 0, strings = 0, gnu_hash = 0, sysv_hash = 0;

    memset(object, 0, sizeof *object);
    object->base = info->dlpi_addr;
    object->segments = info->dlpi_phdr;
    object->segment_count = info->dlpi_phnum;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(object->base + info->dlpi_phdr[i].p_vaddr);
    if (!dynamic) return 0;
    object->dynamic = dynamic;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        uintptr_t address = address_of(object, dynamic->d_un.d_ptr);
        switch (dynamic->d_tag) {
        case DT_RELA: table[0] = address; break;
        case DT_RELASZ: bytes[0] = dynamic->d_un.d_val; break;
        case DT_JMPREL: table[1] = address; break;
        case DT_PLTRELSZ: bytes[1] = dynamic->d_un.d_val; break;
        case DT_PLTREL:
            if (dynamic->d_un.d_val != DT_RELA) return 0;
            break;
        case DT_SYMTAB: symbols = address; break;
        case DT_STRTAB: strings = address; break;
        case DT_STRSZ: object->strings_bytes = dynamic->d_un.d_val; break;
        case DT_GNU_HASH: gnu_hash = address; break;
        case DT_HASH: sysv_hash = address; break;
        default: break;
        }
    }
    object->symbols = readable(object, symbols, sizeof *object->symbols);
    object->strings = readable(object, strings, object->strings_bytes);
    object->gnu_hash = readable(object, gnu_hash, 16);
    object->sysv_hash = readable(object, sysv_hash, 8);
    for (int i = 0; i < 2; i++) {
        object->relocations[i] = readable(object, table[i], bytes[i]);
        if (object->relocations[i]) object->relocation_count[i] = bytes[i] / sizeof(ElfW(Rela));
    }
    find_relro(object);
    return object->symbols && object->strings;
}

void elf_object_names(const struct elf_object *object, elf_name_visitor visit, void *data)
{
    for (const ElfW(Dyn) *entry = object->dynamic; entry->d_tag != DT_NULL; entry++)
        if ((entry->d_tag == DT_NEEDED || entry->d_tag == DT_SONAME) && entry->d_un.d_val < object->strings_bytes)
            visit(object->strings + entry->d_un.d_val, entry->d_tag == DT_SONAME, data);
}

/* --- symbols defined ------------------------------------------------------------------------ */

static int is_definition(const struct elf_object *object, uint32_t index, const char *name)
{
    const ElfW(Sym) *symbol = &object->symbols[index];
    return symbol->st_shndx != SHN_UNDEF && symbol->st_name < object->strings_bytes &&
           strcmp(object->strings + symbol->st_name, name) == 0;
}

static uint32_t gnu_find(const struct elf_object *object, const char *name)
{
    const uint32_t *table = object->gnu_hash;
    uint32_t buckets = table[0], first = table[1], bloom_words = table[2], hash = 5381;
    for (const char *at = name; *at; at++) hash = hash * 33 + (unsigned char)*at;
    const uint32_t *bucket = table + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4);
    const uint32_t *chain = bucket + buckets;
    uint32_t index = buckets ? bucket[hash % buckets] : 0;
    if (index < first) return 0;
    for (;; index++) {
        uint32_t other = chain[index - first];
        if ((other | 1) == (hash | 1) && is_definition(object, index, name)) return index;
        if (other & 1) return 0; /* the chain's end */
    }
}

static uint32_t sysv_find(const struct elf_object *object, const char *name)
{
    uint32_t symbols = object->sysv_hash ? object->sysv_hash[1] : 0;
    for (uint32_t index = 1; index < symbols; index++)
        if (is_definition(object, index, name)) return index;
    return 0;
}

int elf_object_defines(const struct elf_object *object, const char *name, uintptr_t *address)
{
    uint32_t index = object->gnu_hash ? gnu_find(object, name) : sysv_find(object, name);
    const ElfW(Sym) *symbol = &object->symbols[index];
    if (index) *address = ELF64_ST_TYPE(symbol->st_info) == STT_FUNC ? object->base + symbol->st_value : 0;
    return index != 0;
}

/* --- slots ---------------------------------------------------------------------------------- */

void elf_object_slots(const struct elf_object *object, elf_slot_visitor visit, void *data)
{
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; i < object->relocation_count[table]; i++) {
            const ElfW(Rela) *relocation = &object->relocations[table][i];
            uint32_t type = (uint32_t)ELF64_R_TYPE(relocation->r_info);
            uint32_t index = (uint32_t)ELF64_R_SYM(relocation->r_info);
            if (!index || (type != JUMP_SLOT && type != GLOBAL_DATA && type != ABSOLUTE)) continue;
            if (type == ABSOLUTE && relocation->r_addend) continue; /* somewhere inside a function */
            size_t name = object->symbols[index].st_name;
            uintptr_t slot = object->base + relocation->r_offset;
            if (name >= object->strings_bytes || slot % sizeof(void *)) continue;
            visit(object->strings + name, (void **)slot,
                  type == JUMP_SLOT     ? ELF_SLOT_CALL
                  : type == GLOBAL_DATA ? ELF_SLOT_GLOBAL
                                        : ELF_SLOT_DATA,
                  data);
        }
    }
}

#else
typedef int elf_slots_need_glibc;
#endif
