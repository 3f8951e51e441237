/* Standby follows the memory usage: it becomes light at standby_light_percent of the limit and
 * aggressive at standby_aggressive_percent, and goes back 10 points below.
 *
 * Usage is looked at by samples, at most once a second. Hooks can only be switched with the GIL and
 * outside of any allocation, so a look only asks; the switch happens when the next scope opens or as a
 * pending call of the interpreter (see hooks_call_soon), whichever comes first.
 */
#ifndef FA_CLIMB_H
#define FA_CLIMB_H

#include <stdint.h>

void climb_from(uint32_t mode); /* the mode that was asked for: only standby climbs; GIL */
void climb_at(unsigned light_percent, unsigned aggressive_percent); /* before; 0: never */
void climb_pause(int now);      /* not while the guard has stopped tracking; GIL */
void climb_look(void);          /* any thread; no lock held */
int climb_wanted(void);         /* a switch is wanted */
void climb_switch(void);        /* makes it; GIL */

void mode_switch(uint32_t mode, uint64_t interval_bytes); /* lifecycle.c; GIL */

#endif
