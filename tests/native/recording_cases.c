/* The file: created as a new one or not at all; its rings go round; copies are whole. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "live.h"
#include "records.h"

/* The linker puts this in front (--wrap): so that a recording's name is known beforehand. */
static time_t stopped_clock;
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = __real_clock_gettime(clock, now);
    if (stopped_clock && clock == CLOCK_REALTIME) *now = (struct timespec){stopped_clock, 0};
    return result;
}

static const char *next_path(void)
{
    static char path[1300];
    stopped_clock = 1700000000;
    snprintf(path, sizeof path, "%s/fastalloc-%d-%lld000.recording", test_directory, (int)getpid(),
             (long long)stopped_clock);
    return path;
}

static void the_file_is_new_private_and_reserved(void)
{
    const char *path = next_path();
    umask(0);
    CHECK_EQUAL(test_start(1000), FA_OK);
    CHECK(strcmp(fa_recording_path(), path) == 0);
    struct stat is;
    CHECK(stat(path, &is) == 0 && S_ISREG(is.st_mode));
    CHECK_EQUAL(is.st_mode & 07777, 0600);
    CHECK_EQUAL(is.st_size, fa_file_bytes());
    CHECK((uint64_t)is.st_blocks * 512 >= fa_file_bytes());
    CHECK(memcmp(fa_header()->magic, FA_MAGIC, 8) == 0);
    fa_stop(0);
}

static void a_file_or_link_of_that_name_is_refused(void)
{
    const char *path = next_path();
    char victim[1400];
    snprintf(victim, sizeof victim, "%s.victim", path);
    int fd = open(victim, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && write(fd, "precious", 8) == 8);
    close(fd);
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 0) CHECK(symlink(victim, path) == 0);
        if (kind == 1) CHECK(symlink("/nonexistent/dangling", path) == 0);
        if (kind == 2) CHECK(link(victim, path) == 0);
        if (kind == 3) CHECK(mkdir(path, 0700) == 0);
        errno = 0;
        CHECK_EQUAL(test_start(1000), FA_ERROR_SYSTEM);
        CHECK_EQUAL(errno, EEXIST);
        CHECK(strstr(fa_error_step(), "creating"));
        CHECK(!fa_is_active());
        CHECK(remove(path) == 0);
    }
    char text[9] = {0};
    fd = open(victim, O_RDONLY);
    CHECK(read(fd, text, 9) == 8 && strcmp(text, "precious") == 0);
    close(fd);
    CHECK_EQUAL(test_start(1000), FA_OK); /* and then it works */
    fa_stop(0);
}

static void a_full_disk_is_an_error_and_leaves_no_file(void)
{
    const char *path = next_path();
    struct rlimit limit = {100000, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQUAL(test_start(1000), FA_ERROR_SYSTEM);
    CHECK(errno == EFBIG || errno == ENOSPC);
    CHECK(strstr(fa_error_step(), "reserving"));
    CHECK(access(path, F_OK) != 0);
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQUAL(test_start(1000), FA_OK);
    fa_stop(0);
}

static void wrong_arguments_are_refused(void)
{
    struct fa_config good = {.directory = test_directory, .mode = FA_MODE_LIGHT, .interval_bytes = 1000,
                             .max_frames = 10, .scale = 1};
    struct fa_config bad = good;
    bad.scale = 0;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_ARGUMENT);
    bad = good, bad.scale = 65;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_ARGUMENT);
    bad = good, bad.max_frames = FA_MAX_FRAMES + 1;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_ARGUMENT);
    bad = good, bad.mode = 17;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_ARGUMENT);
    bad = good, bad.directory = NULL;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_ARGUMENT);
    static char longest[5000];
    memset(longest, 'a', sizeof longest - 1);
    bad = good, bad.directory = longest;
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_SYSTEM);
    bad = good, bad.directory = "/nonexistent/folder";
    CHECK_EQUAL(fa_start(&bad), FA_ERROR_SYSTEM);
    CHECK_EQUAL(fa_stop(0), FA_ERROR_STOPPED);
    CHECK_EQUAL(fa_set_mode(FA_MODE_LIGHT, 1000), FA_ERROR_STOPPED);
    CHECK_EQUAL(fa_start(&good), FA_OK);
    CHECK_EQUAL(fa_start(&good), FA_ERROR_RUNNING);
    CHECK_EQUAL(fa_stop(0), FA_OK);
    CHECK_EQUAL(fa_stop(0), FA_ERROR_STOPPED);
}

static void rings_go_round_and_keep_the_newest(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    uint32_t events = fa.header->regions[FA_EVENTS].capacity, records = fa.header->regions[FA_RECORDS].capacity;
    lock_begin();
    uint64_t before = REGION(FA_EVENTS).used;
    for (uint64_t i = 0; i < 3 * events + 7; i++) event_write(FA_EVENT_MODE, i, 0, 0);
    CHECK_EQUAL(REGION(FA_EVENTS).used, before + 3 * events + 7);
    for (uint64_t n = REGION(FA_EVENTS).used - events; n < REGION(FA_EVENTS).used; n++) {
        CHECK_EQUAL(fa.events[n % events].sequence, n + 1);
        CHECK_EQUAL(fa.events[n % events].a, n - before);
    }
    lock_end();
    for (uint64_t i = 0; i < 2 * records + 3; i++) fa_checkpoint("here", 4);
    uint64_t used = fa.header->regions[FA_RECORDS].used;
    CHECK_EQUAL(used, 2 * records + 3);
    for (uint64_t n = used - records; n < used; n++) CHECK_EQUAL(fa.records[n % records].sequence, n + 1);
    uint32_t freed = fa.header->regions[FA_FREED].capacity;
    for (uintptr_t i = 1; i <= 2 * freed + 5; i++) {
        test_allocate((void *)(i * 16), i);
        test_free((void *)(i * 16));
    }
    used = fa.header->regions[FA_FREED].used;
    CHECK_EQUAL(used, 2 * freed + 5);
    for (uint64_t n = used - freed; n < used; n++) CHECK_EQUAL(fa.freed[n % freed].size, n + 1);
    fa_stop(0);
}

static void a_copy_is_whole_and_what_stop_leaves_is_final(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    for (uintptr_t i = 1; i <= 1000; i++) test_allocate((void *)(i * 16), i);
    static _Alignas(struct fa_header) char copy[32 << 20];
    CHECK(fa_file_bytes() <= sizeof copy);
    CHECK_EQUAL(fa_copy_recording(copy, 100), FA_ERROR_ARGUMENT);
    CHECK_EQUAL(fa_copy_recording(copy, sizeof copy), FA_OK);
    const struct fa_header *copied = (const void *)copy;
    CHECK_EQUAL(copied->live_samples, 1000);
    CHECK_EQUAL(copied->live_bytes, 500500);
    CHECK_EQUAL(copied->sequence % 2, 0);
    char path[1300];
    strcpy(path, fa_recording_path());
    CHECK_EQUAL(fa_stop(0), FA_OK);
    for (uintptr_t i = 1; i <= 500; i++) test_free((void *)(i * 16)), test_allocate((void *)(i * 16), i);
    struct fa_header written;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, &written, sizeof written) == sizeof written);
    close(fd);
    CHECK_EQUAL(written.live_samples, 1000);
    CHECK_EQUAL(written.state, FA_STATE_STOPPED);
    CHECK_EQUAL(written.ended_count, 1000);
    CHECK_EQUAL(written.ended_bytes, 500500);
    CHECK_EQUAL(written.sequence % 2, 0);
}

static void a_forked_child_has_its_own_file(void)
{
    CHECK_EQUAL(test_start(1), FA_OK);
    for (uintptr_t i = 1; i <= 100; i++) test_allocate((void *)(i * 16), 10);
    char path[1300];
    strcpy(path, fa_recording_path());
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        fa_settle();
        CHECK(strcmp(path, fa_recording_path()) != 0);
        CHECK_EQUAL(fa_header()->pid, getpid());
        CHECK_EQUAL(fa_header()->live_samples, 100);
        for (uintptr_t i = 1; i <= 100; i++) test_free((void *)(i * 16));
        for (uintptr_t i = 1; i <= 30; i++) test_allocate((void *)(i * 32), 7);
        CHECK_EQUAL(fa_header()->live_samples, 30);
        CHECK_EQUAL(fa_stop(0), FA_OK);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQUAL(fa_header()->live_samples, 100);
    CHECK_EQUAL(fa_header()->sequence % 2, 0);
    for (uintptr_t i = 1; i <= 100; i++) CHECK(live_maybe((void *)(i * 16)));
    fa_stop(0);
}

const struct test_case recording_cases[] = {
    {"the file is new, private and reserved", the_file_is_new_private_and_reserved},
    {"a file or link of that name is refused", a_file_or_link_of_that_name_is_refused},
    {"a full disk is an error and leaves no file", a_full_disk_is_an_error_and_leaves_no_file},
    {"wrong arguments are refused", wrong_arguments_are_refused},
    {"rings go round and keep the newest", rings_go_round_and_keep_the_newest},
    {"a copy is whole and what stop leaves is final", a_copy_is_whole_and_what_stop_leaves_is_final},
    {"a forked child has its own file", a_forked_child_has_its_own_file},
    {NULL, NULL},
};
