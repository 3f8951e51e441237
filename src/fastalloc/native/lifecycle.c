/* start, stop, the mode, and fork. */
#define _GNU_SOURCE
#include "climb.h"
#include "fastalloc.h"
#include "guard.h"
#include "hooks.h"
#include "labels.h"
#include "live.h"
#include "lost_file.h"
#include "own_cpu.h"
#include "mappings.h"
#include "native_frames.h"
#include "patches.h"
#include "recorder.h"
#include "recording.h"
#include "recording_file.h"
#include "records.h"
#include "sampler.h"
#include "scopes.h"
#include "sites.h"
#include "strings.h"
#include "threads.h"
#include "usage.h"
#include "watch.h"
#include "watcher.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static int fork_handlers;
static int native; /* as asked for at the start */
static const char *frames_reason; /* why no native frames are kept, though asked for */

/* The mode says what is hooked. */
static int level_of(uint32_t mode)
{
    return mode == FA_MODE_DISABLED ? 0 : mode == FA_MODE_STANDBY ? 1 : 2;
}

static void hook_for(uint32_t mode)
{
    int level = level_of(mode);
    hooks_set_level(level);
    if (level && native) patches_install();
    else patches_remove();
}

/* --- fork --------------------------------------------------------------------------------
 * before (parent): join the watcher;
 *                  copy what is in use aside, under the lock. The lock is not kept: other libraries'
 *                  fork handlers run before the fork does, and may wait for a thread that waits for us.
 * after (parent):  drop the copy.
 * after (child):   put the copy under the same addresses, build the private tables anew from it
 *                  (another thread may have been at them), and go on with the parent's live heap and
 *                  counters of its own, from zero. A file follows when the child turns out to live.
 * A signal handler in C may fork on top of the thread that holds the lock. What it interrupted comes to its end in the
 * child too: there on the copy, with all tables as they are, and then nothing is recorded any more. */

static void before_fork(void)
{
    if (!fa.header) return;
    fa_tls.forking = 1;
    if (fa_tls.locked) {
        if (fa.header->state == FA_STATE_RUNNING) recording_copy_aside();
        return;
    }
    watcher_before_fork();
    if (fa.header->state != FA_STATE_RUNNING) return; /* while switched off, too: the child may be switched on */
    fa_lock();
    if (recording_copy_aside() == 0 && scopes_copy_aside() != 0) recording_drop_copy();
    fa_unlock();
}

static void drop_copies(void)
{
    recording_drop_copy();
    scopes_drop_copy();
}

static void after_fork_in_parent(void)
{
    if (!fa_tls.forking) return;
    fa_tls.forking = 0;
    drop_copies();
    if (!fa_tls.locked) watcher_after_fork_in_parent();
}

static int continue_in_child(void)
{
    struct fa_header *header = fa.header;
    uint32_t parent = header->pid;
    int failed = recording_to_memory();
    if (failed) return failed;
    scopes_child();
    threads_keep_only_self();
    strings_child();
    labels_child();
    if (sites_child() != 0 || live_child() != 0) return -1;
    mappings_child();
    usage_reopen();
    guard_child();
    header->forked_ns = fa_now_ns();
    memset(&header->resident, 0, sizeof header->resident); /* the parent's */
    header->ended_count = header->ended_bytes = 0;
    header->exit_kind = FA_EXIT_UNKNOWN;
    header->exit_name = 0;
    header->exit_ns = 0;
    header->samples = header->freed = 0;
    header->own_cpu_ns = 0; /* as the clock of its own CPU time */
    header->own_cpu_millionths = 0;
    header->high_water_bytes = header->live_bytes;
    header->high_water_count_q16 = header->live_count_q16;
    header->high_water_ns = header->forked_ns;
    header->at_peak = 1;
    memset(header->losses, 0, sizeof header->losses);
    REGION(FA_FREED).used = REGION(FA_RECORDS).used = REGION(FA_EVENTS).used = 0;
    REGION(FA_TIMELINE).used = REGION(FA_TIMELINE_LONG).used = 0;
    event_write(FA_EVENT_FORK, parent, 0, 0);
    return 0;
}

static int end_in_child(void)
{
    if (recording_to_memory() != -2) fa.header->state = FA_STATE_EMPTY;
    return -1;
}

static void after_fork_in_child(void)
{
    if (!fa_tls.forking) return;
    int interrupted = fa_tls.locked;
    fa_tls.forking = 0;
    fa_lock_reset();
    patches_child();
    hooks_child();
    watcher_after_fork_in_child();
    int failed = interrupted ? end_in_child() : continue_in_child();
    drop_copies();
    if (failed) {
        fa.active = 0;
        fa_tls.slot = &fa_nobody;
        fa_lose(FA_LOSS_FORK);
    }
    if (interrupted) {
        fa_tls.locked = 1; /* until it lets go the lock, which nobody else takes here */
        return;
    }
    if (failed == -2) fa.header = NULL; /* not even memory: hooks only forward from here on */
    if (fa.header) __atomic_store_n(&fa.header->sequence, (fa.header->sequence | 1u) + 1u, __ATOMIC_RELEASE);
}

/* --- start and stop ----------------------------------------------------------------------- */

static fa_status forget_recording(fa_status status)
{
    if (fa.path[0]) unlink(fa.path);
    recording_detach();
    fa_unlock();
    return status;
}

fa_status fa_start(const struct fa_config *config)
{
    if (fa_unsupported()) return FA_ERROR_UNSUPPORTED;
    if (fa.active) return FA_ERROR_RUNNING;
    if (!config->directory || config->scale < 1 || config->scale > 64 || config->max_frames < 1 ||
        config->max_frames > FA_MAX_FRAMES || config->mode > FA_MODE_TARGETED ||
        config->native_frames > FA_MAX_NATIVE_FRAMES)
        return FA_ERROR_ARGUMENT;
    if (!fork_handlers && pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
        return FA_ERROR_SYSTEM;
    fork_handlers = 1;
    if (scopes_prepare() != 0) return FA_ERROR_SYSTEM;

    if (fa.header && fa.header->state == FA_STATE_RUNNING) fa_stop(0); /* switched off, not closed */
    frames_reason = config->native_frames ? native_frames_prepare() : NULL;
    fa_lock();
    fa_status status = recording_create(config);
    if (status != FA_OK) {
        fa_unlock();
        return status;
    }
    fa.generation++;
    fa.interval = config->interval_bytes;
    fa.native_frames = frames_reason ? 0 : config->native_frames;
    fa.walk = 1;
    strings_reset();
    mappings_reset();
    if (sites_reset() != 0 || live_reset() != 0) return forget_recording(FA_ERROR_SYSTEM);
    labels_reset();
    spans_reset();
    threads_reset();
    scopes_reset();
    fa.header->python_version = config->python_version;
    fa.header->state = FA_STATE_RUNNING;
    __atomic_store_n(&fa.active, 1, __ATOMIC_RELEASE);
    event_write(FA_EVENT_START, config->mode, config->interval_bytes, 0);
    recording_show(config);
    fa_unlock();

    own_cpu_calibrate();
    usage_open(config->cgroup_usage_path, config->limits, config->limit_count);
    usage_refresh(fa_now_ns(), 0);
    thread_slot();
    native = config->native != 0;
    hook_for(config->mode);
    fa.header->free_design = hooks_design();
    climb_at(config->standby_light_percent, config->standby_aggressive_percent);
    climb_from(config->mode);
    guard_begin(config);
    watch_reset(0);
    watcher_start();
    return FA_OK;
}

fa_status fa_stop(int at_exit)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return FA_ERROR_STOPPED;
    watcher_stop();
    hooks_set_level(0);
    if (!at_exit) patches_remove(); /* at the end the hooks that stay only forward */
    usage_refresh(fa_now_ns(), 0);
    fa_lock();
    __atomic_store_n(&fa.active, 0, __ATOMIC_RELEASE);
    fa.walk = 0;
    threads_end_all();
    event_write(FA_EVENT_STOP, (uint64_t)at_exit, 0, 0);
    fa.header->stopped_ns = fa.header->updated_ns = fa_now_ns();
    fa.header->state = at_exit ? FA_STATE_EXITED : FA_STATE_STOPPED;
    fa.header->sequence = (fa.header->sequence | 1u) + 1u; /* the file stays as it is now */
    fa.generation++;
    recording_file_trim();
    recording_detach();
    lost_file_unwatch();
    fa_tls.slot = &fa_nobody;
    fa_unlock();
    return FA_OK;
}

void fa_note_exit(uint32_t kind, const char *name, size_t name_bytes)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING || kind > FA_EXIT_SIGNAL) return;
    recording_settle(0);
    fa_lock();
    fa.header->exit_name = name_bytes ? string_intern(name, name_bytes) : 0;
    fa.header->exit_kind = kind;
    fa.header->exit_ns = fa.header->updated_ns = fa_now_ns();
    fa_unlock();
}

fa_status fa_set_mode(uint32_t mode, uint64_t interval_bytes)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return FA_ERROR_STOPPED;
    if (mode > FA_MODE_TARGETED) return FA_ERROR_ARGUMENT;
    /* In this order: a control word that says otherwise than what is done is obeyed by the watcher. */
    if (mode != FA_MODE_DISABLED) __atomic_store_n(&fa.header->control, FA_CONTROL_RUN, __ATOMIC_RELAXED);
    guard_forget_stop();
    mode_switch(mode, interval_bytes);
    if (mode == FA_MODE_DISABLED) __atomic_store_n(&fa.header->control, FA_CONTROL_DISABLE, __ATOMIC_RELAXED);
    climb_from(mode);
    return FA_OK;
}

void mode_switch(uint32_t mode, uint64_t interval_bytes)
{
    struct fa_header *header = fa.header;
    uint32_t old = header->mode;
    int lost_sight = !level_of(old) && level_of(mode); /* frees went unseen while disabled */

    if (level_of(mode) < level_of(old)) hook_for(mode);
    fa_lock();
    if (lost_sight)
        for (uint32_t domain = 0; domain < FA_DOMAIN_COUNT; domain++) live_drop_domain(domain);
    if (lost_sight) mappings_reset();
    if (hooks_design() == FA_FREE_FILTER && level_of(mode) == 1) {
        live_drop_domain(FA_DOMAIN_MEM); /* their frees are not hooked in standby */
        live_drop_domain(FA_DOMAIN_OBJ);
    }
    /* What lies in them is sampled from here on: both would count the same memory twice. */
    if (old == FA_MODE_STANDBY && level_of(mode) > level_of(old)) live_drop_domain(FA_DOMAIN_ARENA);
    if (mode != old) event_write(FA_EVENT_MODE, old, mode, 0);
    if (interval_bytes != header->interval_bytes)
        event_write(FA_EVENT_INTERVAL, header->interval_bytes, interval_bytes, 0);
    header->mode = mode;
    header->interval_bytes = interval_bytes;
    fa.interval = fa_guard_has_stopped() ? (uint64_t)FA_PARKED : interval_bytes; /* a trip in between stands */
    if (fa_tls.slot != &fa_nobody && fa_tls.slot->generation == fa.generation)
        sampler_redraw(fa_tls.slot, fa.interval); /* other threads follow within FA_DRAW_CAP bytes */
    __atomic_store_n(&fa.active, mode != FA_MODE_DISABLED, __ATOMIC_RELEASE);
    fa_unlock();
    if (level_of(mode) > level_of(old)) hook_for(mode);
}

int fa_is_active(void)
{
    return __atomic_load_n(&fa.active, __ATOMIC_ACQUIRE);
}

const char *fa_native_frames_reason(void)
{
    return frames_reason ? frames_reason : "";
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
