/* A growing hash index from a hash to the ids of a table's entries: open addressing, linear
 * probing, 4 bytes a slot, at most half full. It stores ids only; the caller compares with the
 * table itself, so a lookup is
 *
 *     for (id_probe p = id_index_probe(&index, hash); (id = id_index_next(&index, &p));)
 *         if (table[id] is it) return id;
 *
 * Single entries are never removed. Used under the recorder's lock only. Memory: raw_memory.
 */
#ifndef FA_ID_INDEX_H
#define FA_ID_INDEX_H

#include <stdint.h>

struct id_index {
    uint32_t *slots; /* 0: empty */
    uint32_t mask;   /* slots - 1 */
    uint32_t used;
    uint32_t (*hash_of)(uint32_t id); /* to place entries anew when the index grows */
};

typedef uint32_t id_probe;

/* Makes it empty, with room for `capacity` ids before the first growth. 0 on success. */
int id_index_reset(struct id_index *index, uint32_t capacity, uint32_t (*hash_of)(uint32_t));
void id_index_clear(struct id_index *index); /* empty, at its present size */
/* 0 on success; on failure (no memory) the id is simply not found later. */
int id_index_insert(struct id_index *index, uint32_t hash, uint32_t id);

static inline id_probe id_index_probe(const struct id_index *index, uint32_t hash)
{
    return hash & index->mask;
}

static inline uint32_t id_index_next(const struct id_index *index, id_probe *probe)
{
    uint32_t id = index->slots[*probe];
    *probe = (*probe + 1) & index->mask;
    return id;
}

static inline uint32_t hash_mix(uint64_t value)
{
    value *= 0x9E3779B97F4A7C15ull;
    return (uint32_t)(value >> 32);
}

#endif
