/* The dynamic linker's locks, as far as they concern who goes through the loaded objects. glibc only. */
#ifndef FA_LINKER_H
#define FA_LINKER_H

#include "recorder.h"

/* Whoever loads an object holds a lock of the linker's until its slots are bound and its initializers are
 * done. Returns when all who were at it have finished. */
void linker_wait_for_loading(void);

/* A fork's child may have inherited the linker's lock from a thread that it has not: then nobody can take it
 * again, and dl_iterate_phdr and dlopen hang for ever. 0: so it is. Asked for the first time in a child,
 * it finds out, in a thread that may hang in our place: about 0.1 ms, or 0.3 s if it does. */
int linker_is_free(void);
void linker_child(void); /* forked child */

#endif
