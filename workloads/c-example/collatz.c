/* Finds the number in [START, END) whose Collatz sequence is the longest: an ordinary C program as a work unit.
 *
 * It prints START, END, the number and the length of its sequence, so that the results of all units can be compared. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The steps from a number to 1; 0 where a number on the way does not fit in 64 bits. */
static uint64_t steps_to_one(uint64_t number) {
    uint64_t steps = 0;
    while (number != 1) {
        if (number % 2 == 0) {
            number /= 2;
        } else if (number > (UINT64_MAX - 1) / 3) {
            return 0;
        } else {
            number = 3 * number + 1;
        }
        steps += 1;
    }
    return steps;
}

/* Reads a decimal number or ends the program. */
static uint64_t number_from(const char *text) {
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0') {
        fprintf(stderr, "error: not a number: %s\n", text);
        exit(2);
    }
    return number;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: collatz START END\n");
        return 2;
    }
    uint64_t start = number_from(argv[1]);
    uint64_t end = number_from(argv[2]);
    uint64_t best = 0;
    uint64_t best_steps = 0;
    for (uint64_t number = start > 0 ? start : 1; number < end; number++) {
        uint64_t steps = steps_to_one(number);
        if (steps > best_steps) {
            best = number;
            best_steps = steps;
        }
    }
    printf("%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", start, end, best, best_steps);
    return 0;
}
