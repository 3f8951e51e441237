/* A loaded ELF object, read from memory: where it keeps the addresses of functions of other objects.
 *
 *   dl_iterate_phdr --> PT_DYNAMIC --> relocations (DT_JMPREL, DT_RELA) --> name, slot
 *
 * Only relocations that name a symbol matter, so DT_RELR (relative ones, packed) is left alone.
 * Nothing here writes, allocates, takes a lock or calls the dynamic linker, so all of it may run in
 * dl_iterate_phdr's callback, where the object cannot be unmapped. glibc only.
 */
#ifndef FA_ELF_SLOTS_H
#define FA_ELF_SLOTS_H

#include <link.h>
#include <stddef.h>
#include <stdint.h>

struct elf_object {
    uintptr_t base;
    const ElfW(Phdr) *segments;
    int segment_count;
    const ElfW(Rela) *relocations[2];
    size_t relocation_count[2];
    const ElfW(Sym) *symbols;
    const char *strings;
    size_t strings_bytes;
    const uint32_t *gnu_hash; /* either may be NULL */
    const uint32_t *sysv_hash;
    const ElfW(Dyn) *dynamic;
    uintptr_t relro_start, relro_end; /* made read-only once relocated; whole pages */
};

/* 0: the object names no function of others, or is not laid out as glibc's linker leaves it. */
int elf_object_read(const struct dl_phdr_info *info, struct elf_object *object);

/* Does address lie in a segment with all of `flags` (PF_R, PF_W, PF_X)? */
int elf_object_holds(const struct elf_object *object, uintptr_t address, uint32_t flags);

/* Does the object define the symbol for others to use? The address is 0 where a function says which. */
int elf_object_defines(const struct elf_object *object, const char *name, uintptr_t *address);

/* The names of the objects that it needs, and its own (DT_SONAME) if it has one: with `own`. */
typedef void (*elf_name_visitor)(const char *name, int own, void *data);
void elf_object_names(const struct elf_object *object, elf_name_visitor visit, void *data);

/* CALL: only called through; may hold the way to the linker until then. GLOBAL: set by the linker alone.
 * DATA: a variable that begins with the address; the object may change it. */
enum elf_slot_kind { ELF_SLOT_CALL, ELF_SLOT_GLOBAL, ELF_SLOT_DATA };

/* Calls `visit` for each slot that holds the address of a symbol. */
typedef void (*elf_slot_visitor)(const char *name, void **slot, enum elf_slot_kind kind, void *data);
void elf_object_slots(const struct elf_object *object, elf_slot_visitor visit, void *data);

#endif
