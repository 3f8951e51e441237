/* Interned text and stacks: the same content has the same id, for ever, and reads back as it was. */
#include <string.h>

#include "check.h"
#include "sites.h"
#include "strings.h"

static int reads(uint32_t id, const char *text, size_t bytes)
{
    uint16_t length;
    memcpy(&length, fa.strings + id, 2);
    return length == bytes && memcmp(fa.strings + id + 2, text, bytes) == 0 && fa.strings[id + 2 + bytes] == 0;
}

static void the_same_text_has_one_id(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    static uint32_t ids[20000];
    char text[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 20000; i++) {
            int bytes = snprintf(text, sizeof text, "name %d", i);
            uint32_t id = string_intern(text, (size_t)bytes);
            CHECK(id);
            if (round) CHECK_EQUAL(id, ids[i]);
            ids[i] = id;
            CHECK(reads(id, text, (size_t)bytes));
        }
    CHECK(string_intern("name 1", 5) != ids[1]); /* a prefix is another text */
    uint32_t nul = string_intern("a\0b", 3);
    CHECK(nul && nul != string_intern("a", 1) && reads(nul, "a\0b", 3));
    lock_end();
    fa_stop(0);
}

static void long_text_is_cut_between_characters(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    static char text[70000];
    for (size_t i = 0; i + 1 < sizeof text; i += 2) memcpy(text + i, "\xC3\xA9", 2);
    lock_begin();
    uint32_t id = string_intern(text, 69998);
    CHECK(id && reads(id, text, 65534));
    CHECK_EQUAL(string_intern(text, 65600), id); /* cut to the same */
    lock_end();
    fa_stop(0);
}

static void a_full_table_of_strings_loses_and_counts(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    char text[64];
    uint32_t first = 0, lost = 0;
    for (int i = 0; i < 30000; i++) {
        int bytes = snprintf(text, sizeof text, "%060d", i);
        uint32_t id = string_intern(text, (size_t)bytes);
        if (!i) first = id;
        lost += !id;
    }
    CHECK(lost > 1000);
    CHECK_EQUAL(fa.header->losses[FA_LOSS_STRINGS], lost);
    CHECK(REGION(FA_STRINGS).used <= REGION(FA_STRINGS).capacity);
    snprintf(text, sizeof text, "%060d", 0);
    CHECK_EQUAL(string_intern(text, 60), first); /* what is there is still found */
    lock_end();
    fa_stop(0);
}

/* --- stacks -------------------------------------------------------------------------------- */

static uint32_t intern_fake(int depth, const int *functions, const int *lines)
{
    struct raw_frame frames[FA_MAX_FRAMES];
    uint64_t hash;
    int cut;
    fake_stack(depth, functions, lines);
    int count = stack_walk_nopy(frames, 64, &hash, &cut);
    return stack_intern(frames, count, hash, cut);
}

static void check_reads_back(uint32_t node, int depth, const int *functions, const int *lines)
{
    char text[32];
    for (int i = 0; i < depth; i++) {
        const struct fa_node *n = &fa.nodes[node];
        const struct fa_function *f = &fa.functions[n->function];
        CHECK(n->parent < node);
        CHECK_EQUAL(n->line, lines[i]);
        CHECK(reads(f->name, text, (size_t)snprintf(text, sizeof text, "function_%d", functions[i])));
        CHECK(reads(f->file, text, (size_t)snprintf(text, sizeof text, "file_%d.py", functions[i] % 7)));
        CHECK_EQUAL(f->first_line, functions[i]);
        node = n->parent;
    }
}

static void the_same_stack_has_one_node_and_reads_back(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    uint64_t random = 77;
    static struct { int depth, functions[64], lines[64]; uint32_t node; } seen[3000];
    for (int k = 0; k < 3000; k++) {
        seen[k].depth = 1 + (int)(test_random(&random) % 12);
        for (int i = 0; i < seen[k].depth; i++) {
            seen[k].functions[i] = (int)(test_random(&random) % 1500); /* so that pairs of the cache are shared by three and more */
            seen[k].lines[i] = seen[k].functions[i] + (int)(test_random(&random) % 3);
        }
        seen[k].node = intern_fake(seen[k].depth, seen[k].functions, seen[k].lines);
        CHECK(seen[k].node);
    }
    for (int k = 0; k < 3000; k++) {
        CHECK_EQUAL(intern_fake(seen[k].depth, seen[k].functions, seen[k].lines), seen[k].node);
        check_reads_back(seen[k].node, seen[k].depth, seen[k].functions, seen[k].lines);
    }
    CHECK(REGION(FA_FUNCTIONS).used <= 1501);
    lock_end();
    fa_stop(0);
}

static void a_cut_stack_ends_in_a_frame_that_says_so(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    int functions[100], lines[100];
    for (int i = 0; i < 100; i++) functions[i] = i, lines[i] = i;
    uint32_t cut = intern_fake(100, functions, lines), whole = intern_fake(64, functions, lines);
    CHECK(cut != whole);
    check_reads_back(cut, 64, functions, lines);
    check_reads_back(whole, 64, functions, lines);
    for (int i = 0; i < 64; i++) cut = fa.nodes[cut].parent, whole = fa.nodes[whole].parent;
    CHECK(cut != 0 && fa.nodes[cut].function == 0 && fa.nodes[cut].parent == 0);
    CHECK_EQUAL(whole, 0);
    CHECK_EQUAL(intern_fake(-1, NULL, NULL), 0);
    lock_end();
    fa_stop(0);
}

static void full_tables_keep_what_is_known(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    fa.header->regions[FA_NODES].capacity = 200;
    fa.header->regions[FA_FUNCTIONS].capacity = 50;
    fa.header->regions[FA_SITES].capacity = 40;
    uint64_t random = 78;
    for (int k = 0; k < 5000; k++) {
        int functions[8], lines[8];
        for (int i = 0; i < 8; i++) functions[i] = (int)(test_random(&random) % 100), lines[i] = functions[i];
        uint32_t node = intern_fake(8, functions, lines);
        CHECK(node < 200);
        CHECK(site_intern(node, FA_DOMAIN_OBJ) < 40);
    }
    CHECK_EQUAL(REGION(FA_NODES).used, 200);
    CHECK(REGION(FA_FUNCTIONS).used <= 50 && REGION(FA_SITES).used == 40);
    CHECK(fa.header->losses[FA_LOSS_NODES] && fa.header->losses[FA_LOSS_FUNCTIONS] &&
          fa.header->losses[FA_LOSS_SITES]);
    lock_end();
    fa_stop(0);
}

static void a_site_is_a_stack_in_a_domain(void)
{
    CHECK_EQUAL(test_start(1000), FA_OK);
    lock_begin();
    int functions[2] = {1, 2}, lines[2] = {3, 4};
    uint32_t node = intern_fake(2, functions, lines);
    uint32_t object = site_intern(node, FA_DOMAIN_OBJ), raw = site_intern(node, FA_DOMAIN_RAW);
    CHECK(object && raw && object != raw);
    CHECK_EQUAL(site_intern(node, FA_DOMAIN_OBJ), object);
    CHECK_EQUAL(fa.sites[raw].node, node);
    CHECK_EQUAL(fa.sites[object].domain, FA_DOMAIN_OBJ);
    lock_end();
    fa_stop(0);
}

const struct test_case interning_cases[] = {
    {"the same text has one id", the_same_text_has_one_id},
    {"long text is cut between characters", long_text_is_cut_between_characters},
    {"a full table of strings loses and counts", a_full_table_of_strings_loses_and_counts},
    {"the same stack has one node and reads back", the_same_stack_has_one_node_and_reads_back},
    {"a cut stack ends in a frame that says so", a_cut_stack_ends_in_a_frame_that_says_so},
    {"full tables keep what is known", full_tables_keep_what_is_known},
    {"a site is a stack in a domain", a_site_is_a_stack_in_a_domain},
    {NULL, NULL},
};
