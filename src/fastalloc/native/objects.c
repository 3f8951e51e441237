/* Counts objects by type in a table of fixed size. */
#include "cpython_objects.h"

#include "fastalloc.h"

#include "dump.h"
#include "recorder.h"

#define SLOTS 4096u /* a power of two */
#define MOST_TYPES (SLOTS / 2)
#define LOOK_EVERY 256u /* objects, at the clock */

struct type_count {
    PyTypeObject *type; /* owned */
    uint64_t count;
};
_Static_assert(SLOTS * sizeof(struct type_count) <= DUMP_SCRATCH_BYTES, "");

static struct type_count *table;
static size_t types; /* in it; after the count they stand at its beginning */

struct visit {
    struct fa_object_counts *counts;
    void *const *wanted;
    size_t wanted_count;
    uint64_t until_ns;
    int stopped;
};

static struct type_count *slot_of(PyTypeObject *type)
{
    uint64_t hash = (uint64_t)(uintptr_t)type * 0x9E3779B97F4A7C15ull;
    for (uint32_t at = (uint32_t)(hash >> 52);; at++) {
        struct type_count *slot = &table[at % SLOTS];
        if (slot->type == type || !slot->type) return slot;
    }
}

static int is_wanted(const struct visit *visit, PyTypeObject *type)
{
    for (size_t i = 0; i < visit->wanted_count; i++)
        if (PyType_IsSubtype(type, (PyTypeObject *)visit->wanted[i])) return 1;
    return 0;
}

static int count_one(PyObject *object, void *state)
{
    struct visit *visit = state;
    struct fa_object_counts *counts = visit->counts;
    if (++counts->seen % LOOK_EVERY == 0 && fa_now_ns() > visit->until_ns) {
        visit->stopped = 1;
        return 0;
    }
    PyTypeObject *type = Py_TYPE(object);
    struct type_count *slot = slot_of(type);
    if (!slot->type) {
        if (types == MOST_TYPES) {
            counts->untold++;
            return 1;
        }
        types++;
        slot->type = (PyTypeObject *)Py_NewRef((PyObject *)type);
        slot->count = 0;
    }
    slot->count++;
    if (visit->wanted_count && counts->kept < FA_KEPT_OBJECTS && is_wanted(visit, type))
        counts->objects[counts->kept++] = Py_NewRef(object);
    return 1;
}

int fa_counting_writes(void)
{
    return visiting_writes();
}

int fa_count_objects(void *const *wanted, size_t wanted_count, uint64_t budget_ns, struct fa_object_counts *counts)
{
    counts->seen = counts->untold = counts->kept = 0;
    counts->complete = 0;
    types = 0;
    table = dump_scratch();
    if (!table) return 1;
    for (uint32_t i = 0; i < SLOTS; i++) table[i] = (struct type_count){0};
    struct visit visit = {
        .counts = counts,
        .wanted = wanted,
        .wanted_count = wanted_count,
        .until_ns = fa_now_ns() + budget_ns,
    };
    int visited = visit_objects(count_one, &visit);
    counts->complete = visited && !visit.stopped;
    for (size_t from = 0, to = 0; to < types; from++)
        if (table[from].type) table[to++] = table[from];
    return visited;
}

void *fa_most_frequent_type(uint64_t *count)
{
    if (!types) return NULL;
    size_t most = 0;
    for (size_t i = 1; i < types; i++)
        if (table[i].count > table[most].count) most = i;
    PyTypeObject *type = table[most].type;
    *count = table[most].count;
    table[most] = table[--types];
    return type; /* now the caller's */
}

void fa_forget_types(void)
{
    while (types) Py_DECREF((PyObject *)table[--types].type);
}
