/* native_tests DIRECTORY CASE: runs one case. Without a case: lists them. */
#include <string.h>

#include "check.h"

static const struct test_case *const groups[] = {sampler_cases, live_cases, interning_cases, recording_cases,
                                                 thread_cases, sweep_cases, watcher_cases, guard_cases,
                                                 resident_cases};

int main(int count, char **arguments)
{
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct test_case *each = groups[group]; each->name; each++) {
            if (count < 3) puts(each->name);
            else if (strcmp(each->name, arguments[2]) == 0) {
                test_directory = arguments[1];
                each->run();
                return 0;
            }
        }
    return count < 3 ? 0 : 2;
}
