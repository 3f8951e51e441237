#define _GNU_SOURCE
#include "recording_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"
#include "recording.h"

char *recording_file_put_number(char *at, uint64_t number)
{
    char digits[24];
    int count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while ((number /= 10));
    while (count) *at++ = digits[--count];
    return at;
}

void recording_file_name(char *path, uint64_t start_time_ns)
{
    /* No printf: a forked child comes here with only async-signal-safe calls allowed. */
    char *at = path;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!start_time_ns) start_time_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
    size_t length = strlen(fa.directory);
    memcpy(at, fa.directory, length);
    at += length;
    memcpy(at, "/fastalloc-", 11);
    at = recording_file_put_number(at + 11, (uint64_t)getpid());
    *at++ = '-';
    at = recording_file_put_number(at, start_time_ns / 1000000);
    memcpy(at, ".recording", 11);
}

/* Locks the file for as long as its mapping lives: the lock belongs to the open file, which the
 * mapping keeps after the descriptor is closed, and which goes with the process however it ends. Readers
 * ask for the lock to tell whether the process lives, also from another pid namespace. Where the file
 * system knows no such locks, readers look for the pid alone. */
void recording_file_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    (void)fcntl(fd, F_OFD_SETLK, &whole);
}

static uint64_t keep_free_bytes;

void recording_file_keep_free(uint64_t bytes)
{
    keep_free_bytes = bytes;
}

/* Whether the disk has room for so many bytes and the floor besides. */
static int has_room(int fd, uint64_t bytes)
{
    struct statfs disk;
    if (!keep_free_bytes || fstatfs(fd, &disk) != 0) return 1;
    return (uint64_t)disk.f_bavail * (uint64_t)disk.f_bsize >= bytes + keep_free_bytes;
}

int recording_file_open(uint64_t bytes)
{
    int fd = open(fa.path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        recording_fail("creating the recording");
        return -1;
    }
    recording_file_lock(fd); /* first: who finds it unfinished asks whether anybody is at it */
    int room = has_room(fd, bytes);
    int error = room ? posix_fallocate(fd, 0, (off_t)bytes) : ENOSPC;
    if (error) {
        recording_fail(room ? "reserving disk space for the recording" : "leaving keep_free_bytes of the disk free");
        close(fd);
        unlink(fa.path);
        errno = error;
        return -1;
    }
    return fd;
}

/* Or the first touch of a page reads megabytes around it, which count for the cgroup. */
void recording_file_mapped(void *memory, uint64_t bytes)
{
    madvise(memory, bytes, MADV_RANDOM);
}

void recording_file_is_whole(void *header)
{
    _Static_assert(offsetof(struct fa_header, magic) == 0, "");
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(header, FA_MAGIC, sizeof((struct fa_header *)0)->magic); /* one store, at any address */
}

void recording_file_trim(void)
{
    if (fa.header->pid != (uint32_t)getpid()) return; /* never another process's file */
    int fd = fa.path[0] ? open(fa.path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0) return;
    for (int id = 0; id < FA_REGION_COUNT; id++) {
        const struct fa_region *region = &REGION(id);
        uint64_t used = region->used < region->capacity ? region->used : region->capacity;
        uint64_t from = page_up(region->offset + used * region->stride);
        uint64_t to = page_up(region->offset + (uint64_t)region->capacity * region->stride);
        /* Not every file system can; then the file stays as large as it was reserved. */
        if (from < to) (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
    }
    close(fd);
}
