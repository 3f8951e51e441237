/* What the object allocator holds and what of it is in blocks: CPython tells by a printout only.
 *
 * Counting arenas from our start on would miss those from before; the printout has them all. It is no
 * API, so it is looked up at run time, and believed only where its numbers fit together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "fastalloc.h"
#include "hooks.h"
#include "resident.h"

#define PRINTOUT_BYTES 16384 /* it is 4 KiB, mostly of a line per size */

static char printout[PRINTOUT_BYTES]; /* the GIL guards it */
static int (*print)(FILE *);

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

void fa_resident_arenas(struct fa_resident *found)
{
    uint64_t held, live;
    *(void **)(void *)&print = dlsym(RTLD_DEFAULT, "_PyObject_DebugMallocStats");
    FILE *file = print ? fmemopen(printout, sizeof printout, "w") : NULL;
    if (!file) return;
    printout[0] = 0;
    /* It prints nothing where the object allocator is not pymalloc itself, so not under our hooks. */
    hooks_with_original_objects(print_into, file);
    fclose(file);
    printout[sizeof printout - 1] = 0;
    if (!arenas_parse(printout, &held, &live)) return;
    found->arena_bytes = held;
    found->arena_live_bytes = live;
}
