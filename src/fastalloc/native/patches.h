/* Patching: putting the hooks of native memory into the slots of loaded objects, and taking them out.
 *
 * A slot is where an object keeps the address of another's function. No address of a slot is kept: each time,
 * the objects loaded at that moment are gone through anew, inside dl_iterate_phdr, where none can be
 * unmapped. So a slot of an object that is gone is never touched.
 *
 * Laws
 *  1. A slot is changed only from the original to the hook, and from the hook to the original. (One
 *     that is not bound yet is bound by that.) What another tool put there stays.
 *  2. A page has the protection afterwards that it had before.
 *  3. An object that is being loaded is not touched: the linker still adds to its slots. Only those are patched
 *     that are known to be settled (linker.h); whoever looks waits for that beforehand, without the GIL, and what was
 *     added since is left for the next look, which the watcher is asked for. Where the program is about to wait for
 *     the linker itself, at dlsym, it is waited for right here.
 *  4. Objects are gone through only by a thread that holds the GIL, so that os.fork() finds the
 *     linker's lock free. Nothing here is called from an allocation.
 *  5. A fork's child may inherit the linker's lock from a thread that it has not: nobody could take it again,
 *     and loading a library would hang for ever. So before its first walk a child finds out, in a thread
 *     of its own that may hang. Then the hooks stay where they are.
 *  6. What an object's slots held at the last walk is remembered as a number only. If a hook is missing since
 *     (objects that were there then are told from such as were loaded to the same place), somebody
 *     took it, and frees went unseen: the native samples are dropped.
 *  7. Left alone: the object that holds the interpreter, and the main program (but for dlsym and dlopen); this
 *     one (but for the sentinel: notice.h); the C library and the linker; all that define malloc themselves, or are bound to
 *     an allocator that is not the program's.
 */
#ifndef FA_PATCHES_H
#define FA_PATCHES_H

#include "recorder.h"

void patches_install(void);
void patches_remove(void);
/* Patches what was loaded since; looks at all if a tool was here. Any thread; without the GIL it has the watcher do
 * so. Little when there is nothing new. */
void patches_follow(void);
void patches_child(void); /* forked child */

#endif
