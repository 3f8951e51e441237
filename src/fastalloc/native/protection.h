/* Writing into pages that may be read-only, and leaving them as they were. One thread at a time. */
#ifndef FA_PROTECTION_H
#define FA_PROTECTION_H

#include <stddef.h>
#include <stdint.h>

struct page_writer {
    uintptr_t page;   /* made writable; 0: none */
    int protection;   /* to go back to */
    int look;         /* at the process's map, for what the protection is */
    struct protection_map *map;
};

/* look: any page may have been protected or opened since it was loaded. Otherwise pages are as the
 * linker left them. */
void page_writer_begin(struct page_writer *writer, int look);
/* One aligned word; `relro`: the linker made it read-only. 0: the page cannot be opened. */
int page_writer_put(struct page_writer *writer, void **slot, void *value, int relro);
void page_writer_close(struct page_writer *writer); /* the page that is open, if any */
void page_writer_end(struct page_writer *writer);

#endif
