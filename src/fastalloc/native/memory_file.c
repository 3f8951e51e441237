#define _GNU_SOURCE
#include "memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lost_file.h"
#include "recorder.h"
#include "recording.h"
#include "recording_file.h"

/*  folder/fastalloc-7-1764.recording --> /proc/7/fd/200 --> memfd, mapped by process 7
 *
 * The descriptor stays open: by it the file can be found. A program may close it, as daemons do, and be
 * given its number for a file of its own; so it is closed only while it is ours, and readers look what
 * the link leads to. */
#ifndef F_ADD_SEALS /* older C libraries do not know them, the kernel does from 3.17 on */
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#endif

#define FIRST_FD 200 /* out of the way of programs that count on small numbers */
#define NAME "fastalloc"

static int memory_fd = -1;
static struct stat identity;
static char link_path[sizeof fa.path];
static char target[64];

static int open_memory(uint64_t bytes)
{
    int fd = (int)syscall(SYS_memfd_create, NAME, 3u /* MFD_CLOEXEC | MFD_ALLOW_SEALING */);
    if (fd < 0) return -1;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    if (ftruncate(fd, (off_t)bytes) == 0 && fstat(fd, &identity) == 0) {
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); /* nobody cuts it short under us */
        return fd;
    }
    close(fd);
    return -1;
}

static void name_link(int fd)
{
    recording_file_name(link_path, 0);
    memcpy(target, "/proc/", 6);
    char *at = recording_file_put_number(target + 6, (uint64_t)getpid());
    memcpy(at, "/fd/", 4);
    *recording_file_put_number(at + 4, (uint64_t)fd) = 0;
}

/* Another mapping of the same content under the same addresses. What other threads count into their slots
 * in between is lost; all else waits for the lock. */
static int move_into(int fd, uint64_t bytes)
{
    void *file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) return -1;
    recording_copy_used(file, fa.header);
    munmap(file, bytes);
    return mmap(fa.header, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ? -1 : 0;
}

void memory_file_show(void)
{
    int saved = errno;
    if (memory_fd >= 0) {
        (void)!symlink(target, link_path);
        errno = saved;
        return;
    }
    uint64_t bytes = fa.header->file_bytes;
    int fd = open_memory(bytes);
    if (fd >= 0) {
        name_link(fd);
        if (symlink(target, link_path) != 0) {
            close(fd); /* nobody would find it */
        } else if (move_into(fd, bytes) != 0) {
            unlink(link_path);
            close(fd);
        } else {
            memory_fd = fd;
            recording_file_lock(fd);
            lost_file_watch();
        }
    }
    errno = saved;
}

int memory_file_is_shown(void)
{
    return memory_fd >= 0;
}

void memory_file_forget(void)
{
    struct stat now;
    int is_ours = memory_fd >= 0 && fstat(memory_fd, &now) == 0 && now.st_dev == identity.st_dev &&
                  now.st_ino == identity.st_ino;
    if (is_ours) close(memory_fd);
    memory_fd = -1;
}

void memory_file_hide(void)
{
    int saved = errno;
    if (memory_fd >= 0 && fa.header->pid == (uint32_t)getpid()) unlink(link_path);
    memory_file_forget();
    errno = saved;
}
