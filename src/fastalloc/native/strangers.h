/* Values of slots that are neither an original nor a hook of ours: what are they?
 *
 * The question is asked while objects are gone through, one by one. To answer it they are gone through again,
 * and once more to go by it. The linker is not asked: it may be loading, see linker.h.
 */
#ifndef FA_STRANGERS_H
#define FA_STRANGERS_H

#include "recorder.h"

enum stranger_verdict {
    VERDICT_OPEN,      /* to be looked up */
    VERDICT_ALLOCATOR, /* another function of that name: the object is bound to another allocator. Or in no object at
                          all: a fork's child was left with one half loaded */
    VERDICT_TOOL       /* something put in the function's place, as we do */
};

/* `name`: of the function whose slot it is; outlives the answer. */
enum stranger_verdict stranger_verdict(void *value, const char *name);
void strangers_look_up(void); /* not inside dl_iterate_phdr */
void stranger_file(const void *value, char *file, size_t bytes); /* the name of the file that it lies in */
void strangers_forget(void); /* objects were unloaded: an address may be another's now */

#endif
