/* The kin of an allocator that an object brings along: objects that may be bound to it, not to the program's.
 *
 * Calls are bound in the order of the program's global scope, in which the program's own allocator comes first. Only an
 * object opened with RTLD_DEEPBIND is bound in its own scope first: in what it needs, and what that needs. So
 * whatever can be bound to an allocator A is needed by an object that needs A, too:
 *
 *        plugin ------> A (defines malloc)      plugin, A, helper: kin of A
 *           +---------> helper                  other: is not, and is bound to the program's
 *        other -------> libc
 *
 * Objects are known by the hash of their names, as DT_NEEDED has them. glibc only.
 */
#ifndef FA_KIN_H
#define FA_KIN_H

#include "elf_slots.h"

/* Goes through all objects until nothing more is found. Not inside dl_iterate_phdr. */
void kin_find(int (*brings_allocator)(const struct elf_object *object));
/* Of what was found. `file`: where the object was loaded from. */
int kin_has(const struct elf_object *object, const char *file);

#endif
