/* A dump is made in a hidden folder, which gets its name when it is whole: who looks, at any time
 * and after any kill, finds all of it or nothing.
 *
 *   reserve  ->  the text of state.json, piece by piece  ->  fa_dump_write
 *                (in reserved memory, never on the heap)     folder, copy, state.json, rename,
 *                                                            then to the disk
 *
 * The rename comes before the writing back to the disk: what a dump must outlive is the kill of
 * its process, often milliseconds away, and page cache does. After a power failure the newest dump
 * may have holes; readers say so. */
#define _GNU_SOURCE
#include "dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fastalloc.h"
#include "raw_memory.h"
#include "recorder.h"
#include "recording.h"
#include "records.h"

#define PAGE FA_PAGE_BYTES
#define CHUNK_BYTES (256u * 1024)
#define MARGIN_BYTES (16u * 1024)
#define ATTEMPTS 3

enum what { FA_DUMP_BEGUN = 1, FA_DUMP_COMPLETE, FA_DUMP_FAILED }; /* `a` of the event */

static void dump_note(enum what what);

/* --- reserved memory ---------------------------------------------------------------------- */

static struct {
    char *memory; /* scratch, then text */
    size_t touched; /* of the text: needs no page any more */
    size_t most;
    size_t limit; /* of the dump being written */
    size_t used;
    uint64_t begun_ns;
} reserved;

static void touch(volatile char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PAGE) from[at] = from[at];
}

fa_status fa_dump_reserve(size_t touched, size_t most)
{
    if (touched > most) touched = most;
    if (!reserved.memory || reserved.most != most) {
        char *memory = raw_memory_map(DUMP_SCRATCH_BYTES + most);
        if (!memory) return recording_fail("reserving memory for dumps");
        raw_memory_unmap(reserved.memory, DUMP_SCRATCH_BYTES + reserved.most);
        reserved.memory = memory;
        reserved.most = most;
    }
    touch(reserved.memory, DUMP_SCRATCH_BYTES + touched);
    reserved.touched = touched;
    return FA_OK;
}

void *dump_scratch(void)
{
    if (!reserved.memory && fa_dump_reserve(0, CHUNK_BYTES) != FA_OK) return NULL;
    return reserved.memory;
}

size_t fa_dump_begin(size_t limit)
{
    reserved.used = 0;
    reserved.begun_ns = fa_now_ns();
    dump_note(FA_DUMP_BEGUN);
    reserved.limit = limit < reserved.most ? limit : reserved.most;
    if (reserved.limit < reserved.touched) reserved.limit = reserved.touched;
    return reserved.limit;
}

int fa_dump_text(const char *text, size_t bytes, size_t spare)
{
    if (!reserved.memory || reserved.used + bytes + spare > reserved.limit) return 0;
    memcpy(reserved.memory + DUMP_SCRATCH_BYTES + reserved.used, text, bytes);
    reserved.used += bytes;
    return 1;
}

size_t fa_dump_position(void)
{
    return reserved.used;
}

void fa_dump_rewind(size_t position)
{
    if (position < reserved.used) reserved.used = position;
}

static void give_back_untouched(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE); /* the kernel's: up to 64 KiB on ARM */
    size_t kept = (DUMP_SCRATCH_BYTES + reserved.touched + page - 1) / page * page;
    size_t all = DUMP_SCRATCH_BYTES + reserved.most;
    if (kept < all) madvise(reserved.memory + kept, all - kept, MADV_DONTNEED);
}

/* --- the copy of the recording ------------------------------------------------------------- */

static uint64_t used_bytes(const struct fa_region *region)
{
    uint64_t used = region->used < region->capacity ? region->used : region->capacity;
    return used * region->stride;
}

/* The recording as it was when the copy began. The program may stop it meanwhile and start another one, whose
 * tables lie elsewhere. */
struct original {
    uint32_t generation;
    uint64_t file_bytes;
    struct fa_region regions[FA_REGION_COUNT];
};

static void look_at(struct original *original)
{
    fa_lock();
    original->generation = fa.generation;
    original->file_bytes = fa.header->file_bytes;
    memcpy(original->regions, fa.header->regions, sizeof original->regions);
    fa_unlock();
}

/* Lock held: who begins one holds it until `generation` has moved on. */
static int is_another_now(const struct original *original)
{
    return fa.generation != original->generation;
}

static uint64_t bytes_in_use(const struct original *original)
{
    uint64_t bytes = PAGE;
    for (int id = 0; id < FA_REGION_COUNT; id++) bytes += page_up(used_bytes(&original->regions[id]));
    return bytes;
}

/* Through a mapping of the new file, whose pages are there before the lock is taken: it is held for
 * a memcpy only, and the copy is of one instant. 1: tables grew too fast, or no such mapping here. */
static int copy_mapped(int fd, const struct original *original)
{
    uint64_t ready[FA_REGION_COUNT];
    uint64_t file_bytes = original->file_bytes;
    char *to = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (to == MAP_FAILED) return 1;
    madvise(to, file_bytes, MADV_RANDOM); /* or each touch reads a whole window around it */

    int result = 0, error = posix_fallocate(fd, 0, PAGE); /* a full disk shows here, not as SIGBUS */
    for (int id = 0; id < FA_REGION_COUNT && !error; id++) {
        const struct fa_region *region = &original->regions[id];
        uint64_t end = page_up((uint64_t)region->stride * region->capacity);
        ready[id] = page_up(used_bytes(region) + MARGIN_BYTES);
        if (ready[id] > end) ready[id] = end;
        error = posix_fallocate(fd, (off_t)region->offset, (off_t)ready[id]);
        if (!error) touch(to + region->offset, ready[id]);
    }
    if (!error) {
        touch(to, PAGE);
        fa_lock();
        result = is_another_now(original);
        for (int id = 0; id < FA_REGION_COUNT && !result; id++)
            if (used_bytes(&REGION(id)) > ready[id]) result = 1;
        if (!result) {
            recording_copy_used(to, fa.header);
            ((struct fa_header *)(void *)to)->sequence &= ~1u; /* whole: nobody else was inside */
        }
        fa_unlock();
    }
    munmap(to, file_bytes);
    errno = error;
    return error ? 1 : result;
}

static int send(int to, int from, uint64_t offset, uint64_t bytes)
{
    off_t at = (off_t)offset;
    if (lseek(to, at, SEEK_SET) < 0) return -1;
    while (bytes) {
        size_t chunk = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        ssize_t sent = sendfile(to, from, &at, chunk);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) {
            if (sent == 0) errno = EIO; /* the recording was cut */
            return -1;
        }
        bytes -= (uint64_t)sent;
        /* Page cache counts for the cgroup: written back, these pages can go. */
        fdatasync(to);
        posix_fadvise(to, at - sent, sent, POSIX_FADV_DONTNEED);
    }
    return 0;
}

/* Chunk by chunk from the recording's file, so that page cache stays below CHUNK_BYTES. Where the
 * process went on writing meanwhile, `sequence` of the copy is odd: readers then work out again
 * what may disagree. 1: it was closed meanwhile. */
static int copy_sent(int fd, const struct original *original)
{
    int from = fa.path[0] ? open(fa.path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (from < 0) return -1;
    int result = 0;
    for (int attempt = 0; attempt < ATTEMPTS && !result; attempt++) {
        uint32_t before = __atomic_load_n(&fa.header->sequence, __ATOMIC_ACQUIRE);
        uint32_t sweeps = fa.header->sweeps;
        result = send(fd, from, 0, PAGE);
        for (int id = 0; id < FA_REGION_COUNT && !result; id++) {
            struct fa_region region = original->regions[id];
            region.used = REGION(id).used;
            if (used_bytes(&region)) result = send(fd, from, region.offset, used_bytes(&region));
        }
        uint32_t after = __atomic_load_n(&fa.header->sequence, __ATOMIC_ACQUIRE);
        if (result || (before == after && !(before & 1))) break;
        after |= 1u;
        uint32_t sweeping = fa.header->sweeping || fa.header->sweeps != sweeps; /* stacks were moved */
        if (pwrite(fd, &after, sizeof after, offsetof(struct fa_header, sequence)) < 0 ||
            pwrite(fd, &sweeping, sizeof sweeping, offsetof(struct fa_header, sweeping)) < 0)
            result = -1;
    }
    int error = errno;
    close(from);
    fa_lock();
    if (is_another_now(original)) result = 1;
    fa_unlock();
    errno = error;
    return result;
}

static int copy_recording(int fd, uint64_t headroom)
{
    struct original original;
    for (int attempt = 0; attempt <= ATTEMPTS; attempt++) {
        look_at(&original);
        int fits = !headroom || bytes_in_use(&original) < headroom / 4;
        int can_send = fa.path[0] != 0;
        if (!original.file_bytes) return -1;
        /* What is not in use stays a hole. */
        if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)original.file_bytes) != 0) return -1;
        if (fa.header->state == FA_STATE_RUNNING && (fits || !can_send) && attempt < ATTEMPTS) {
            if (copy_mapped(fd, &original) == 0) return 0;
        } else {
            int result = can_send ? copy_sent(fd, &original) : -1;
            if (result <= 0) return result;
        }
    }
    errno = EAGAIN; /* each time another one was begun */
    return -1;
}

/* --- the folder ------------------------------------------------------------------------------ */

struct folder {
    char building[1200]; /* hidden, until it is whole */
    char final[1200];
    int recording;
    int state;
    int directory;
};

static void name_folder(struct folder *folder, uint64_t instant_ms)
{
    unsigned long long instant = instant_ms;
    int pid = (int)getpid();
    snprintf(folder->building, sizeof folder->building, "%s/.dump-%d-%llu", fa.directory, pid, instant);
    snprintf(folder->final, sizeof folder->final, "%s/dump-%d-%llu", fa.directory, pid, instant);
}

static int create_in(const struct folder *folder, const char *name)
{
    return openat(folder->directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int write_all(int fd, const char *text, size_t bytes)
{
    while (bytes) {
        ssize_t written = write(fd, text, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        text += written;
        bytes -= (size_t)written;
    }
    return 0;
}

static const char *fill(struct folder *folder, uint64_t headroom)
{
    folder->directory = open(folder->building, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->directory < 0) return "opening the dump's folder";
    folder->recording = create_in(folder, "recording.fastalloc");
    if (folder->recording < 0 || copy_recording(folder->recording, headroom) != 0) return "copying the recording";
    folder->state = create_in(folder, "state.json");
    if (folder->state < 0 || write_all(folder->state, reserved.memory + DUMP_SCRATCH_BYTES, reserved.used) != 0)
        return "writing state.json";
    return NULL;
}

/* Under the first name from `instant_ms` on that no other dump has. */
static int publish(struct folder *folder, uint64_t instant_ms)
{
    char building[sizeof folder->building];
    strcpy(building, folder->building);
    for (int attempt = 0; attempt < 1000; attempt++) {
        if (rename(building, folder->final) == 0) return 0;
        if (errno != EEXIST && errno != ENOTEMPTY) return -1;
        name_folder(folder, ++instant_ms);
    }
    strcpy(folder->building, building);
    return -1;
}

static void discard(struct folder *folder)
{
    int error = errno;
    if (folder->directory >= 0) {
        unlinkat(folder->directory, "recording.fastalloc", 0);
        unlinkat(folder->directory, "state.json", 0);
    }
    rmdir(folder->building);
    errno = error;
}

static void to_disk(int fd)
{
    if (fd < 0) return;
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void close_all(struct folder *folder)
{
    int error = errno;
    if (folder->recording >= 0) close(folder->recording);
    if (folder->state >= 0) close(folder->state);
    if (folder->directory >= 0) close(folder->directory);
    errno = error;
}

static void dump_note(enum what what)
{
    if (!fa.header || fa.header->state != FA_STATE_RUNNING) return;
    fa_lock();
    if (what == FA_DUMP_COMPLETE) fa.header->dumps++;
    event_write(FA_EVENT_DUMP, what, (fa_now_ns() - reserved.begun_ns) / 1000000, 0);
    fa_unlock();
}

static fa_status fail(const char *step)
{
    int error = errno;
    dump_note(FA_DUMP_FAILED);
    errno = error;
    return recording_fail(step);
}

fa_status fa_dump_write(uint64_t instant_ms, uint64_t headroom, char *path, size_t path_bytes)
{
    struct folder folder = {.recording = -1, .state = -1, .directory = -1};
    if (!fa.header || !fa.header->file_bytes || !reserved.memory) return FA_ERROR_STOPPED;
    name_folder(&folder, instant_ms);
    while (mkdir(folder.building, 0700) != 0) {
        if (errno != EEXIST) return fail("making the dump's folder");
        name_folder(&folder, ++instant_ms); /* another dump of this very millisecond, or left by a kill */
    }
    const char *failed = fill(&folder, headroom);
    if (!failed && publish(&folder, instant_ms) != 0) failed = "naming the dump";
    if (failed) {
        discard(&folder);
    } else {
        dump_note(FA_DUMP_COMPLETE);
        to_disk(folder.recording);
        to_disk(folder.state);
        fsync(folder.directory);
        int parent = open(fa.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent >= 0) {
            fsync(parent);
            close(parent);
        }
    }
    close_all(&folder);
    give_back_untouched();
    if (failed) return fail(failed);
    snprintf(path, path_bytes, "%s", folder.final);
    return FA_OK;
}
