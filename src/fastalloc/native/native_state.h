/* Whether native memory is recorded, and what is to be said about it: to the program's status and, in the
 * recording's header, to readers. Written by who goes through the loaded objects (patches.h), one thread at a time. */
#ifndef FA_NATIVE_STATE_H
#define FA_NATIVE_STATE_H

#include "recorder.h"

struct native_state {
    int on;
    uint32_t slots;     /* that hold a hook */
    uint32_t refused;   /* that should, in pages that cannot be made writable */
    uint32_t gaps;      /* times that hooks were found taken away and were put back */
    int stuck;          /* a fork's child that cannot go through the loaded objects any more */
    char why_off[200];  /* "" while on */
};
extern struct native_state native_state HIDDEN;

void native_state_begin(void);               /* to be on; nothing was said yet */
void native_state_off(const char *why);      /* not, or no longer */
void native_state_publish(void);             /* after any change. No lock held */
void native_state_event(enum fa_native_event what);
/* Also: the samples so far are dropped, since frees of them were not, or will not be, seen. */
void native_state_forget_samples(enum fa_native_event what);

#endif
