#define _GNU_SOURCE
#include "recording.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "lost_file.h"
#include "memory_file.h"
#include "oom_kills.h"
#include "raw_memory.h"
#include "recorder.h"
#include "recording_file.h"

static const char *failed_step = "";
static uint64_t unsettled_since_ns; /* a forked child without a file yet; 0: there is one */

const char *fa_error_step(void)
{
    return failed_step;
}

fa_status recording_fail(const char *step)
{
    failed_step = step;
    return FA_ERROR_SYSTEM;
}

/* Capacities at scale 1: 4.5 MiB of file, of which a process touches what it uses. The live
 * table then holds 8 GiB of live heap at an interval of 512 KiB before it is thinned. */
static const struct {
    uint32_t stride;
    uint32_t capacity;
    int scales;
} plan[FA_REGION_COUNT] = {
    [FA_THREADS] = {sizeof(struct fa_thread), 512, 0},
    [FA_OPTIONS] = {1, 8192, 0},
    [FA_STRINGS] = {1, 512 * 1024, 1},
    [FA_FUNCTIONS] = {sizeof(struct fa_function), 8192, 1},
    [FA_NODES] = {sizeof(struct fa_node), 32768, 1},
    [FA_SITES] = {sizeof(struct fa_site), 8192, 1},
    [FA_LIVE] = {sizeof(struct fa_live), 16384, 1},
    [FA_FREED] = {sizeof(struct fa_freed), 512, 1},
    [FA_SPANS] = {sizeof(struct fa_span), 4096, 0},
    [FA_PHASES] = {sizeof(struct fa_phase), 2048, 0},
    [FA_THREAD_NAMES] = {sizeof(struct fa_thread_name), 256, 0},
    [FA_RECORDS] = {sizeof(struct fa_record), 1024, 1},
    [FA_TIMELINE] = {sizeof(struct fa_tick), 600, 0},
    [FA_TIMELINE_LONG] = {sizeof(struct fa_tick), 1440, 0},
    [FA_EVENTS] = {sizeof(struct fa_event), 256, 0},
};

static uint64_t lay_out(struct fa_region regions[FA_REGION_COUNT], uint32_t scale)
{
    uint64_t offset = FA_PAGE_BYTES;
    for (int id = 0; id < FA_REGION_COUNT; id++) {
        regions[id].offset = offset;
        regions[id].stride = plan[id].stride;
        regions[id].capacity = plan[id].capacity * (plan[id].scales ? scale : 1);
        regions[id].used = 0;
        offset += page_up((uint64_t)regions[id].stride * regions[id].capacity);
    }
    return offset;
}

void recording_bind(void)
{
    char *base = (char *)fa.header;
#define BIND(member, id) fa.member = (void *)(base + REGION(id).offset)
    BIND(threads, FA_THREADS);
    BIND(strings, FA_STRINGS);
    BIND(functions, FA_FUNCTIONS);
    BIND(nodes, FA_NODES);
    BIND(sites, FA_SITES);
    BIND(live, FA_LIVE);
    BIND(freed, FA_FREED);
    BIND(spans, FA_SPANS);
    BIND(phases, FA_PHASES);
    BIND(thread_names, FA_THREAD_NAMES);
    BIND(records, FA_RECORDS);
    BIND(timeline, FA_TIMELINE);
    BIND(timeline_long, FA_TIMELINE_LONG);
    BIND(events, FA_EVENTS);
#undef BIND
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Field 22 of /proc/self/stat. The command (field 2) may hold anything, so start behind its
 * last parenthesis. By way of the folder: the whole path qemu's user-mode emulation answers itself,
 * with a start some ticks after the one that other processes see. */
static uint64_t process_start_ticks(void)
{
    char text[1024];
    int folder = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = openat(folder, "stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1); /* after a failed open it fails, too */
    close(folder);
    close(fd);
    if (length <= 0) return 0;
    text[length] = 0;
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    uint64_t ticks = 0;
    while (at && *at >= '0' && *at <= '9') ticks = ticks * 10 + (uint64_t)(*at++ - '0');
    return ticks;
}

static void identify(struct fa_header *header)
{
    header->pid = (uint32_t)getpid();
    header->parent_pid = (uint32_t)getppid();
    header->process_start_ticks = process_start_ticks();
    struct stat namespace;
    header->pid_namespace = stat("/proc/self/ns/pid", &namespace) == 0 ? namespace.st_ino : 0;
}

fa_status recording_create(const struct fa_config *config)
{
    if (strlen(config->directory) >= sizeof fa.directory) {
        errno = ENAMETOOLONG;
        return recording_fail("naming the recording");
    }
    struct fa_header first;
    memset(&first, 0, sizeof first);
    first.file_bytes = lay_out(first.regions, config->scale);

    strcpy(fa.directory, config->directory);
    recording_file_keep_free(config->keep_free_bytes);
    int fd = -1;
    for (int tries = 0; tries < 4; tries++) { /* a name has milliseconds: the recording before may be as young */
        if (tries) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        first.start_time_ns = clock_ns(CLOCK_REALTIME);
        first.start_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
        recording_file_name(fa.path, first.start_time_ns);
        fd = config->in_memory ? -1 : recording_file_open(first.file_bytes);
        if (fd >= 0 || config->in_memory || errno != EEXIST) break;
    }
    if (fd < 0 && !config->in_memory) return FA_ERROR_SYSTEM;

    /* Reuse the range of an earlier recording where it is large enough (law 3). */
    void *where = NULL;
    int flags = config->in_memory ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    if (fa.header && fa.mapped_bytes >= first.file_bytes) {
        where = fa.header;
        flags |= MAP_FIXED;
    }
    void *memory = mmap(where, first.file_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    int error = errno;
    if (fd >= 0) close(fd);
    if (memory == MAP_FAILED) {
        if (fd >= 0) unlink(fa.path);
        errno = error;
        return recording_fail("mapping the recording");
    }
    if (!config->in_memory) recording_file_mapped(memory, first.file_bytes);
    if (memory != fa.header) fa.mapped_bytes = first.file_bytes;
    if (config->in_memory) fa.path[0] = 0;
    first.layout_version = FA_LAYOUT_VERSION;
    first.header_bytes = sizeof first;
    first.mode = config->mode;
    first.interval_bytes = config->interval_bytes;
    first.max_frames = config->max_frames;
    first.limit_bytes = config->limit_count ? config->limits[0].bytes : 0;
    first.state = FA_STATE_EMPTY;
    first.next_span_id = 1;
    oom_kills_watch(config->oom_events_path);
    first.oom_kills_at_start = oom_kills_now();
    identify(&first);
    memcpy(memory, &first, sizeof first);
    fa.header = memory;
    fa.max_frames = config->max_frames;
    unsettled_since_ns = 0;
    recording_bind();
    if (config->options) {
        size_t length = strlen(config->options);
        if (length > REGION(FA_OPTIONS).capacity) length = 0; /* never half a JSON text */
        memcpy((char *)fa.header + REGION(FA_OPTIONS).offset, config->options, length);
        REGION(FA_OPTIONS).used = length;
    }
    return FA_OK;
}

void recording_show(const struct fa_config *config)
{
    recording_file_is_whole(fa.header);
    if (config->in_memory) memory_file_show();
    else lost_file_watch();
}

void recording_detach(void)
{
    memory_file_hide();
    struct fa_header last = *fa.header; /* late hooks index by its regions; status reads it */
    void *memory = mmap(fa.header, fa.mapped_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (memory == MAP_FAILED) return; /* no memory: the file stays mapped, which is safe too */
    lost_file_is_memory();
    *fa.header = last;
}

/* --- what is in use, copied ------------------------------------------------------------- */

void recording_copy_used(void *to, const void *from)
{
    const struct fa_header *header = from;
    memcpy((char *)to + sizeof header->magic, (const char *)from + sizeof header->magic,
           header->header_bytes - sizeof header->magic);
    for (int id = 0; id < FA_REGION_COUNT; id++) {
        const struct fa_region *region = &header->regions[id];
        uint64_t used = region->used < region->capacity ? region->used : region->capacity;
        memcpy((char *)to + region->offset, (const char *)from + region->offset, used * region->stride);
    }
    recording_file_is_whole(to);
}

uint64_t fa_file_bytes(void)
{
    return fa.header ? fa.header->file_bytes : 0;
}

fa_status fa_copy_recording(char *to, size_t bytes)
{
    if (!fa.header || !fa.header->file_bytes) return FA_ERROR_STOPPED;
    fa_lock();
    int fits = bytes >= fa.header->file_bytes;
    if (fits) {
        recording_copy_used(to, fa.header);
        /* Whole: nobody else was inside. `to` may lie at any address. */
        uint32_t even = fa.header->sequence & ~1u;
        memcpy(to + offsetof(struct fa_header, sequence), &even, sizeof even);
    }
    fa_unlock();
    return fits ? FA_OK : FA_ERROR_ARGUMENT;
}

/* --- fork --------------------------------------------------------------------------------
 * A child starts on anonymous memory, and gets a file when it turns out to live: most children of
 * fork go over to another program at once, and should leave nothing behind. */

/* The parent's state at the fork: private memory, so the child has it too. Per thread, since several
 * may fork at once. */
static __thread char *aside;
static __thread size_t aside_bytes;

int recording_copy_aside(void)
{
    aside_bytes = fa.header->file_bytes;
    aside = raw_memory_map(aside_bytes);
    if (!aside) return -1;
    recording_copy_used(aside, fa.header);
    return 0;
}

void recording_drop_copy(void)
{
    raw_memory_unmap(aside, aside_bytes);
    aside = NULL;
}

int recording_to_memory(void)
{
    struct fa_header last = *fa.header;
    void *memory = mmap(fa.header, fa.mapped_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (memory == MAP_FAILED) return -2;
    lost_file_is_memory();
    fa.path[0] = 0;
    memory_file_forget();
    if (!aside) {
        *fa.header = last;
        fa.header->state = FA_STATE_EMPTY;
        return -1;
    }
    recording_copy_used(fa.header, aside);
    identify(fa.header);
    unsettled_since_ns = fa_now_ns() | 1;
    return 0;
}

int recording_settled(void)
{
    return !__atomic_load_n(&unsettled_since_ns, __ATOMIC_RELAXED);
}

/* Lock held. From anonymous memory into a new file; errno if that fails. */
static int move_to_file(void)
{
    uint64_t bytes = fa.header->file_bytes;
    fa.header->oom_kills_at_start = oom_kills_now();
    recording_file_name(fa.path, 0);
    int fd = recording_file_open(bytes);
    void *file = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int failed = file == MAP_FAILED, error = errno;
    if (!failed) {
        /* What other threads count into their slots between the copy and the switch is lost;
         * all else waits for the lock. */
        recording_file_mapped(file, bytes);
        recording_copy_used(file, fa.header);
        if (mmap(fa.header, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            fa.active = 0;
        munmap(file, bytes); /* not before: who looks whether anybody maps it shall find us */
        memory_file_hide();
        recording_file_mapped(fa.header, bytes);
        lost_file_watch();
    } else {
        if (fd >= 0) unlink(fa.path);
        fa.path[0] = 0;
        memory_file_show(); /* it goes on in memory */
    }
    if (fd >= 0) close(fd);
    errno = error;
    return failed ? -1 : 0;
}

fa_status fa_to_file(void)
{
    if (!fa.header || !fa_is_active()) return FA_ERROR_STOPPED;
    recording_settle(0);
    fa_status status = FA_OK;
    fa_lock();
    if (!fa.path[0] && move_to_file() != 0) status = FA_ERROR_SYSTEM;
    fa_unlock();
    return status;
}

void recording_settle(uint64_t after_ns)
{
    uint64_t since = __atomic_load_n(&unsettled_since_ns, __ATOMIC_RELAXED);
    if (LIKELY(!since)) return;
    if (fa.header->state != FA_STATE_RUNNING || (after_ns && fa_now_ns() - since < after_ns)) return;
    int saved = errno;
    fa_lock();
    if (unsettled_since_ns) {
        if (move_to_file() != 0) fa_lose(FA_LOSS_FORK);
        __atomic_store_n(&unsettled_since_ns, 0, __ATOMIC_RELAXED);
    }
    fa_unlock();
    errno = saved;
}

void fa_settle(void)
{
    if (fa.header) recording_settle(0);
}
