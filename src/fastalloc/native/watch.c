#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "climb.h"
#include "control.h"
#include "dump_signal.h"
#include "fastalloc.h"
#include "guard.h"
#include "notice.h"
#include "recorder.h"
#include "recording.h"
#include "records.h"
#include "usage.h"

#define SECOND 1000000000ull
#define TICK_BYTES ((int64_t)1 << 20) /* a process whose usage stands still writes nothing */

static uint32_t dump_requests_seen, resident_requests_seen;
static char switch_file[sizeof fa.directory + sizeof "/disabled"]; /* control.py's FILE_NAME */
static int switch_seen;

enum { IS_ABSENT, IS_THERE, IS_UNKNOWN };

void watch_reset(int in_child)
{
    dump_requests_seen = fa.header ? fa.header->dump_requests : 0;
    resident_requests_seen = fa.header ? fa.header->resident_requests : 0;
    snprintf(switch_file, sizeof switch_file, "%s/disabled", fa.directory);
    /* None begins beside the file. A child has taken over what its parent held: there Python looks once. */
    switch_seen = in_child ? IS_UNKNOWN : IS_ABSENT;
}

/* Has the file that switches all processes off come or gone? Asked here, since Python would need the GIL for it.
 * A folder that cannot be read says nothing. */
static int switch_has_changed(void)
{
    struct stat unused;
    int is = IS_UNKNOWN;
    if (lstat(switch_file, &unused) == 0) is = IS_THERE;
    else if (errno == ENOENT || errno == ENOTDIR) is = IS_ABSENT;
    int changed = is != IS_UNKNOWN && is != switch_seen;
    if (changed) switch_seen = is;
    return changed;
}

/* Has Python done what the word asks for? Told by the state, not by a change: between two looks the same may be asked
 * for again. */
static int is_obeyed(uint32_t control)
{
    uint32_t mode = __atomic_load_n(&fa.header->mode, __ATOMIC_RELAXED);
    return control == (mode == FA_MODE_DISABLED ? FA_CONTROL_DISABLE : FA_CONTROL_RUN);
}

/* Samples obey the control word too, and sooner where there are any. */
static void obey(uint32_t control)
{
    if (control == FA_CONTROL_RUN || !fa_is_active()) return;
    fa_lock();
    control_look();
    fa_unlock();
}

static int has_moved(uint64_t now, uint64_t before)
{
    int64_t by = (int64_t)(now - before);
    return by >= TICK_BYTES || by <= -TICK_BYTES;
}

/* Samples write the timeline while there are any; memory may grow without them. */
static void tick(void)
{
    usage_refresh(fa_now_ns(), SECOND - SECOND / 8);
    if (!fa_is_active()) return;
    struct fa_region *region = &REGION(FA_TIMELINE);
    fa_lock();
    const struct fa_tick *last = &fa.timeline[region->used ? (region->used - 1) % region->capacity : 0];
    if (fa_is_active() && (has_moved(usage_rss(), last->rss_bytes) ||
                           has_moved(usage_of_cgroup(), last->cgroup_bytes)))
        timeline_tick(fa_now_ns());
    fa_unlock();
}

uint64_t watch(uint32_t *reasons)
{
    if (!fa.header || __atomic_load_n(&fa.header->state, __ATOMIC_RELAXED) != FA_STATE_RUNNING) return SECOND;
    recording_settle(FA_SETTLE_NS);
    if (!recording_settled()) return FA_SETTLE_NS; /* a child that may be about to run another program */
    uint32_t control = __atomic_load_n(&fa.header->control, __ATOMIC_RELAXED);
    uint32_t requests = __atomic_load_n(&fa.header->dump_requests, __ATOMIC_RELAXED);
    uint32_t looks = __atomic_load_n(&fa.header->resident_requests, __ATOMIC_RELAXED);
    obey(control);
    if (!is_obeyed(control) || switch_has_changed()) *reasons |= FA_REASON_CONTROL;
    if (requests != dump_requests_seen) *reasons |= FA_REASON_DUMP;
    if (looks != resident_requests_seen) *reasons |= FA_REASON_RESIDENT;
    dump_requests_seen = requests;
    resident_requests_seen = looks;
    if (notice_at_watch()) *reasons |= FA_REASON_NATIVE;
    uint64_t next = guard_poll(reasons);
    tick();
    climb_look();
    dump_signal_keep();
    return next < SECOND ? next : SECOND;
}
