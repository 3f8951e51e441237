/* What the object allocator holds and what of it is in blocks: CPython tells by a printout only.
 *
 * Counting arenas from our start on would miss those from before; the printout has them all. It is no
 * API, so it is looked up at run time, and believed only where its numbers fit together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "resident.h"

static int (*print)(FILE *); /* NULL: this interpreter does not offer it */

static void print_into(void *file)
{
    print(file);
}

/* "# bytes in allocated blocks  =  2,923,504" */
static int number_behind(const char *text, const char *label, uint64_t *number)
{
    const char *at = strstr(text, label);
    if (!at || !(at = strchr(at, '='))) return 0;
    for (at++; *at == ' '; at++) continue;
    if (*at < '0' || *at > '9') return 0;
    for (*number = 0; (*at >= '0' && *at <= '9') || *at == ','; at++)
        if (*at != ',') *number = *number * 10 + (uint64_t)(*at - '0');
    return 1;
}

int arenas_parse(const char *text, uint64_t *held, uint64_t *live)
{
    uint64_t available;
    return number_behind(text, " bytes/arena", held) &&
           number_behind(text, "# bytes in allocated blocks", live) &&
           number_behind(text, "# bytes in available blocks", &available) && *live + available <= *held;
}

void arenas_open(struct fa_look *look)
{
    void *address = dlsym(RTLD_DEFAULT, "_PyObject_DebugMallocStats");
    *(void **)(void *)&print = address;
    memset(look->printout, 0, sizeof look->printout);
    look->file = address ? fmemopen(look->printout, sizeof look->printout, "w") : NULL;
    if (look->file) setvbuf(look->file, look->buffer, _IOFBF, sizeof look->buffer); /* or it would ask malloc, later */
}

void fa_look_at_arenas(struct fa_look *look)
{
    /* It prints nothing where the object allocator is not pymalloc itself, so not under our hooks. */
    if (look->file) hooks_with_original_objects(print_into, look->file);
}

void arenas_close(struct fa_look *look)
{
    uint64_t held, live;
    if (!look->file) return;
    fclose(look->file);
    look->printout[sizeof look->printout - 1] = 0;
    if (!arenas_parse(look->printout, &held, &live)) return;
    look->found.arena_bytes = held;
    look->found.arena_live_bytes = live;
}
