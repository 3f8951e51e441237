/* start, stop, the mode, and fork. */
#define _GNU_SOURCE
#include "climb.h"
#include "fastalloc.h"
#include "hooks.h"
#include "live.h"
#include "recorder.h"
#include "recording.h"
#include "records.h"
#include "sampler.h"
#include "scopes.h"
#include "sites.h"
#include "strings.h"
#include "threads.h"
#include "usage.h"

#include <pthread.h>

static int fork_handlers;

/* The mode says what is hooked. */
static int level_of(uint32_t mode)
{
    return mode == FA_MODE_DISABLED ? 0 : mode == FA_MODE_STANDBY ? 1 : 2;
}

/* --- fork --------------------------------------------------------------------------------
 * before (parent): take the lock, so that nobody is inside, and copy what is in use aside.
 * after (parent):  drop the copy, unlock.
 * after (child):   put an own file under the same addresses, write the copy into it, and go on
 *                  with the parent's live heap and counters of its own, from zero. */

static int forking;

static void before_fork(void)
{
    if (!fa.header || fa_tls.locked) return;
    fa_lock();
    forking = 1;
    if (fa.active && recording_copy_aside() != 0) fa_lose(FA_LOSS_FORK);
}

static void after_fork_in_parent(void)
{
    if (!forking) return;
    recording_drop_copy();
    forking = 0;
    fa_unlock();
}

static void after_fork_in_child(void)
{
    if (!forking) return;
    forking = 0;
    uint32_t parent = fa.header->pid;
    int was_active = fa.active, failed = was_active ? recording_continue_in_child() : -1;
    recording_drop_copy();
    if (!was_active) recording_detach(); /* stopped: the mapping is private already, or a dead file's */
    if (failed) fa.active = 0;
    if (failed == -2) { /* not even memory: hooks only forward from here on */
        fa.header = NULL;
        fa_tls.slot = &fa_nobody;
    } else if (!failed) {
        struct fa_header *header = fa.header;
        usage_reopen();
        threads_keep_only_self();
        scopes_child();
        header->forked_ns = fa_now_ns();
        header->ended_count = header->ended_bytes = 0;
        header->samples = header->freed = 0;
        header->high_water_bytes = header->live_bytes;
        header->high_water_count_q16 = header->live_count_q16;
        header->high_water_ns = header->forked_ns;
        header->at_peak = 1;
        REGION(FA_FREED).used = REGION(FA_RECORDS).used = REGION(FA_EVENTS).used = 0;
        REGION(FA_TIMELINE).used = REGION(FA_TIMELINE_LONG).used = 0;
        event_write(FA_EVENT_FORK, parent, 0, 0);
        header->sequence |= 1u;
    }
    fa_lock_reset();
    if (fa.header) __atomic_store_n(&fa.header->sequence, (fa.header->sequence | 1u) + 1u, __ATOMIC_RELEASE);
}

/* --- start and stop ----------------------------------------------------------------------- */

static fa_status forget_recording(fa_status status)
{
    recording_detach();
    fa_unlock();
    return status;
}

fa_status fa_start(const struct fa_config *config)
{
    if (fa_unsupported()) return FA_ERROR_UNSUPPORTED;
    if (fa.active) return FA_ERROR_RUNNING;
    if (!config->directory || config->scale < 1 || config->scale > 64 || config->max_frames < 1 ||
        config->max_frames > FA_MAX_FRAMES || config->mode > FA_MODE_TARGETED)
        return FA_ERROR_ARGUMENT;
    if (!fork_handlers && pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
        return FA_ERROR_SYSTEM;
    fork_handlers = 1;
    if (scopes_prepare() != 0) return FA_ERROR_SYSTEM;

    if (fa.header && fa.header->state == FA_STATE_RUNNING) fa_stop(0); /* switched off, not closed */
    fa_lock();
    fa_status status = recording_create(config);
    if (status != FA_OK) {
        fa_unlock();
        return status;
    }
    fa.generation++;
    fa.interval = config->interval_bytes;
    fa.walk = 1;
    strings_reset();
    if (sites_reset() != 0 || live_reset() != 0) return forget_recording(FA_ERROR_SYSTEM);
    REGION(FA_PHASES).used = REGION(FA_SPANS).used = 1;
    threads_reset();
    scopes_reset();
    fa.header->python_version = config->python_version;
    fa.header->state = FA_STATE_RUNNING;
    __atomic_store_n(&fa.active, 1, __ATOMIC_RELEASE);
    event_write(FA_EVENT_START, config->mode, config->interval_bytes, 0);
    fa_unlock();

    usage_open(config->cgroup_usage_path, (int)config->limit_of_cgroup);
    usage_refresh(0);
    thread_slot();
    hooks_set_level(level_of(config->mode));
    fa.header->free_design = hooks_design();
    climb_from(config->mode);
    return FA_OK;
}

fa_status fa_stop(int at_exit)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return FA_ERROR_STOPPED;
    hooks_set_level(0);
    usage_refresh(0);
    fa_lock();
    __atomic_store_n(&fa.active, 0, __ATOMIC_RELEASE);
    fa.walk = 0;
    threads_end_all();
    event_write(FA_EVENT_STOP, (uint64_t)at_exit, 0, 0);
    fa.header->stopped_ns = fa.header->updated_ns = fa_now_ns();
    fa.header->state = at_exit ? FA_STATE_EXITED : FA_STATE_STOPPED;
    fa.header->sequence = (fa.header->sequence | 1u) + 1u; /* the file stays as it is now */
    fa.generation++;
    recording_trim();
    recording_detach();
    fa_tls.slot = &fa_nobody;
    fa_unlock();
    return FA_OK;
}

fa_status fa_set_mode(uint32_t mode, uint64_t interval_bytes)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return FA_ERROR_STOPPED;
    if (mode > FA_MODE_TARGETED) return FA_ERROR_ARGUMENT;
    mode_switch(mode, interval_bytes);
    climb_from(mode);
    return FA_OK;
}

void mode_switch(uint32_t mode, uint64_t interval_bytes)
{
    struct fa_header *header = fa.header;
    uint32_t old = header->mode;
    int lost_sight = !level_of(old) && level_of(mode); /* frees went unseen while disabled */

    if (level_of(mode) < level_of(old)) hooks_set_level(level_of(mode));
    fa_lock();
    if (lost_sight)
        for (uint32_t domain = 0; domain < FA_DOMAIN_COUNT; domain++) live_drop_domain(domain);
    if (hooks_design() == FA_FREE_FILTER && level_of(mode) == 1) {
        live_drop_domain(FA_DOMAIN_MEM); /* their frees are not hooked in standby */
        live_drop_domain(FA_DOMAIN_OBJ);
    }
    if (mode != old) event_write(FA_EVENT_MODE, old, mode, 0);
    if (interval_bytes != header->interval_bytes)
        event_write(FA_EVENT_INTERVAL, header->interval_bytes, interval_bytes, 0);
    header->mode = mode;
    header->interval_bytes = fa.interval = interval_bytes;
    if (fa_tls.slot != &fa_nobody && fa_tls.slot->generation == fa.generation)
        sampler_redraw(fa_tls.slot, interval_bytes); /* other threads follow within FA_DRAW_CAP bytes */
    header->control = mode == FA_MODE_DISABLED ? FA_CONTROL_DISABLE : FA_CONTROL_RUN;
    __atomic_store_n(&fa.active, mode != FA_MODE_DISABLED, __ATOMIC_RELEASE);
    fa_unlock();
    if (level_of(mode) > level_of(old)) hooks_set_level(level_of(mode));
}

int fa_is_active(void)
{
    return __atomic_load_n(&fa.active, __ATOMIC_ACQUIRE);
}

int fa_hooks_displaced(void)
{
    return fa.active && hooks_displaced();
}

const struct fa_header *fa_header(void)
{
    return fa.header;
}

const char *fa_recording_path(void)
{
    return fa.path;
}
