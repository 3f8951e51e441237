/* The control word, and what switches recording off or makes it cheaper from outside the program's own
 * calls. What it decides on is Python's (control.py, overhead.py); this keeps the recording's note of it. */
#ifndef FA_CONTROL_H
#define FA_CONTROL_H

#include "recorder.h"

/* Lock held. The word says DISABLE: no sample is taken from here on. The hooks stay until Python takes them
 * away. */
void control_stop(void);

/* At each sample; lock held. */
static inline void control_look(void)
{
    if (UNLIKELY(__atomic_load_n(&fa.header->control, __ATOMIC_RELAXED) == FA_CONTROL_DISABLE)) control_stop();
}

#endif
