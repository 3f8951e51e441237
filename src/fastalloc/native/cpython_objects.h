/* How to visit every object that the garbage collector tracks, without a list of them.
 *
 *   3.11 to 3.13   by the collector's own lists, as gc.get_objects() goes through them, only reading
 *   3.14 on        PyUnstable_GC_VisitObjects, which counts a reference of each object up and down: in a
 *                  forked child that writes to every page it shares with its parent
 *
 * Where the lists are cannot be told by the headers: it differs between 3.13.0 and 3.13.5. So they are looked
 * for in the running interpreter. Where they are not found, 3.12 and 3.13 go the way of 3.14, and 3.11 has none.
 *
 * The visitor neither allocates nor frees, so no collection can begin meanwhile. */
#ifndef FA_CPYTHON_OBJECTS_H
#define FA_CPYTHON_OBJECTS_H

#include <Python.h>

#if PY_VERSION_HEX >= 0x030e0000 || defined(Py_GIL_DISABLED)

static inline const void *find_lists(void)
{
    return NULL;
}

static inline void visit_lists(const void *lists, int (*visit)(PyObject *, void *), void *state)
{
    (void)lists, (void)visit, (void)state;
}

#else
#include <stdint.h>

/* Debian's builds of 3.13 align the heads to 4 bytes only. */
#define AT_FOUR __attribute__((packed, aligned(4)))

/* What stands before each tracked object, and at the head of each list: a ring. The two lowest bits are flags. */
struct AT_FOUR gc_links {
    uintptr_t next, previous;
};
#define LINK(word) ((const struct gc_links *)((word) & ~(uintptr_t)3))

struct AT_FOUR gc_list {
    struct gc_links head;
    int threshold, count;
};
struct AT_FOUR gc_lists {
    struct gc_list generations[3];
};

/* Behind them, where a pointer may stand: the address of the first of them, and then the permanent generation. */
struct AT_FOUR gc_rest {
    const void *youngest;
    struct gc_list permanent;
};

static inline const struct gc_rest *rest_of(const struct gc_lists *lists)
{
    return (const struct gc_rest *)(((uintptr_t)(lists + 1) + 7) & ~(uintptr_t)7);
}

static inline int is_ring(const struct gc_links *head)
{
    const struct gc_links *next = LINK(head->next), *previous = LINK(head->previous);
    return next && previous && LINK(next->previous) == head && LINK(previous->next) == head;
}

#define FARTHEST 65536u /* from the interpreter's beginning: less than its size, and ten times what was seen */

/* An object that was just made is the last of the youngest generation: behind it comes the list's head. */
static inline const struct gc_lists *find_lists(void)
{
    static const struct gc_lists *known; /* they stay where they are: no memory is wanted at a dump */
    static const void *known_in;
    if (known && known_in == PyInterpreterState_Get()) return known;
    PyObject *newest = PyList_New(0);
    if (!newest) {
        PyErr_Clear();
        return NULL;
    }
    const struct gc_links *links = (const struct gc_links *)newest - 1;
    const struct gc_lists *lists = (const struct gc_lists *)LINK(links->next);
    int found = (uintptr_t)lists - (uintptr_t)PyInterpreterState_Get() < FARTHEST &&
                LINK(lists->generations[0].head.previous) == links && rest_of(lists)->youngest == lists &&
                rest_of(lists)->permanent.threshold == 0 && rest_of(lists)->permanent.count == 0;
    for (int i = 0; found && i < 3; i++) found = is_ring(&lists->generations[i].head);
    found = found && is_ring(&rest_of(lists)->permanent.head);
    Py_DECREF(newest);
    if (found) {
        known = lists;
        known_in = PyInterpreterState_Get();
    }
    return found ? lists : NULL;
}

static inline int visit_list(const struct gc_list *list, int (*visit)(PyObject *, void *), void *state)
{
    for (const struct gc_links *at = LINK(list->head.next); at != &list->head; at = LINK(at->next))
        if (!visit((PyObject *)(at + 1), state)) return 0;
    return 1;
}

static inline void visit_lists(const struct gc_lists *lists, int (*visit)(PyObject *, void *), void *state)
{
    for (int i = 0; i < 3; i++)
        if (!visit_list(&lists->generations[i], visit, state)) return;
    visit_list(&rest_of(lists)->permanent, visit, state);
}

#endif

#if PY_VERSION_HEX >= 0x030c0000
#define VISITS_WITHOUT_LISTS 1
#else
#define VISITS_WITHOUT_LISTS 0
#define PyUnstable_GC_VisitObjects(visit, state) ((void)(visit), (void)(state))
#endif

/* Do visits write to the objects? */
static inline int visiting_writes(void)
{
    return VISITS_WITHOUT_LISTS && !find_lists();
}

/* 0: this interpreter has no way to. */
static inline int visit_objects(int (*visit)(PyObject *, void *), void *state)
{
    const void *lists = find_lists();
    if (lists) visit_lists(lists, visit, state);
    else if (VISITS_WITHOUT_LISTS) PyUnstable_GC_VisitObjects(visit, state);
    else return 0;
    return 1;
}

#endif
