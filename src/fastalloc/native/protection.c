#define _GNU_SOURCE
#include "protection.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "raw_memory.h"

/* /proc/self/maps, as far as it fits. */
#define RANGES 32768
struct protection_map {
    size_t count;
    struct {
        uintptr_t start, end;
        int protection;
    } ranges[RANGES];
};

static const char *hexadecimal(const char *at, uintptr_t *number)
{
    for (*number = 0;; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0) return at;
        *number = *number << 4 | (uintptr_t)digit;
    }
}

/* "7f1c2e000000-7f1c2e021000 rw-p ..." */
static void add_line(struct protection_map *map, const char *line)
{
    uintptr_t start, end;
    line = hexadecimal(line, &start);
    if (*line != '-' || map->count >= RANGES) return;
    line = hexadecimal(line + 1, &end);
    if (*line++ != ' ') return;
    map->ranges[map->count].start = start;
    map->ranges[map->count].end = end;
    map->ranges[map->count].protection =
        (line[0] == 'r' ? PROT_READ : 0) | (line[1] == 'w' ? PROT_WRITE : 0) | (line[2] == 'x' ? PROT_EXEC : 0);
    map->count++;
}

static void read_map(struct protection_map *map)
{
    char text[8192], line[64];
    size_t length = 0;
    ssize_t bytes;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    while ((bytes = read(file, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < bytes; i++) {
            if (text[i] == '\n') {
                line[length] = 0;
                add_line(map, line);
                length = 0;
            } else if (length < sizeof line - 1) {
                line[length++] = text[i];
            }
        }
    }
    close(file);
}

void page_writer_begin(struct page_writer *writer, int look)
{
    *writer = (struct page_writer){.look = look};
}

/* -1: not known */
static int protection_now(struct page_writer *writer, uintptr_t page)
{
    if (!writer->look) return -1;
    if (!writer->map) {
        writer->map = raw_memory_map(sizeof *writer->map);
        if (!writer->map) return -1;
        read_map(writer->map);
    }
    size_t low = 0, high = writer->map->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (writer->map->ranges[middle].end > page) high = middle;
        else low = middle + 1;
    }
    if (low >= writer->map->count || writer->map->ranges[low].start > page) return -1;
    return writer->map->ranges[low].protection;
}

void page_writer_close(struct page_writer *writer)
{
    if (writer->page) mprotect((void *)writer->page, (size_t)sysconf(_SC_PAGESIZE), writer->protection);
    writer->page = 0;
}

int page_writer_put(struct page_writer *writer, void **slot, void *value, int relro)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = (uintptr_t)slot & ~(uintptr_t)(bytes - 1);
    if (page != writer->page) {
        page_writer_close(writer);
        int protection = protection_now(writer, page);
        if (protection < 0) protection = relro ? PROT_READ : PROT_READ | PROT_WRITE;
        if (!(protection & PROT_WRITE)) {
            if (mprotect((void *)page, bytes, protection | PROT_READ | PROT_WRITE) != 0) return 0;
            writer->page = page;
            writer->protection = protection;
        }
    }
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    return 1;
}

void page_writer_end(struct page_writer *writer)
{
    page_writer_close(writer);
    raw_memory_unmap(writer->map, sizeof *writer->map);
    writer->map = NULL;
}
