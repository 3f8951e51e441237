/* The dynamic linker's locks, as far as they concern who goes through the loaded objects. glibc only.
 *
 * Whoever loads an object holds the first of two until its slots are bound and its initializers, which are foreign
 * code, are done; the second only while the list of objects changes. dlopen, dlsym and dladdr take the first,
 * dl_iterate_phdr the second.
 *
 * Law: a thread with the GIL does not wait for the first one, but where the program is about to do so itself: an
 * initializer may want the GIL. So who will go through the objects waits before, without the GIL, and
 * then keeps to those that are settled.
 */
#ifndef FA_LINKER_H
#define FA_LINKER_H

#include "recorder.h"

/* Waits until all that are there now are settled: loaded for good, or gone. A fork's child waits 0.3 s at most. */
void linker_settle(void);
/* Objects are numbered as they are added (dlpi_adds). How many of the first `added` are settled; `wait`: all that can be. */
uint64_t linker_settled(uint64_t added, int wait);

/* A fork's child may have inherited a lock of the linker's from a thread that it has not: then nobody can take it
 * again, and dl_iterate_phdr and dlopen hang for ever. 0: so it is, or so it looks as yet. Asked for the first time in a
 * child, it finds out, in a thread that may hang in our place: about 0.1 ms, or 0.3 s if it does. */
int linker_is_free(void);
void linker_child(void); /* forked child */

#endif
