/* What tells that the loaded objects should be gone through sooner than the clock says: another tool has
 * patched them, maybe only for a while, or one was loaded by a thread that may not go through them itself.
 *
 * Noticed at samples and at dlsym, in whatever thread, for a few instructions; the watcher then
 * does it, with the GIL. So it happens when the next sample is taken, but not within 0.1 s of the last time: what
 * came just then, and no sample after it, the watcher finds by its own clock, in a second.
 */
#ifndef FA_NOTICE_H
#define FA_NOTICE_H

#include "recorder.h"

/* The sentinel is a slot of our own object, which is never unloaded, so it may be read at any time. A tool that
 * patches all objects takes it, too, and puts the original there when it leaves. Nothing is called through it. */
#define SENTINEL_NAME "free"
void sentinel_set(void **slot, void *hook); /* it holds `hook` now; NULL: there is none */
int sentinel_is_taken(void);

void notice_loading(void);  /* dlopen is about to be called */
void notice_walk(void);     /* all that is loaded by now is about to be gone through */
void notice_at_sample(void); /* rings the watcher where that is due. Any thread, no lock held */
int notice_at_watch(void);  /* the watcher's own question: shall it be done? */

#endif
