/* cli/table.h - columns that line up. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdio.h>

enum { TABLE_MAX_COLUMNS = 32 };

/* Cells are copied.  A column is as wide as its widest cell.  Memory that runs out is remembered
 * and reported by table_print(). */
struct table {
    int columns, cells;
    char **cell; /* row after row, the heading first; owned */
    int capacity;
    unsigned right; /* bit i: column i is aligned to the right */
    int failed;
};

/* `right` has one letter a column: 'r' right, 'l' left. */
void table_init(struct table *t, const char *align);
void table_done(struct table *t);

/* The next cell, rows filled from left to right. */
__attribute__((format(printf, 2, 3))) void table_add(struct table *t, const char *fmt, ...);

/* Returns 0 or -ENOMEM (nothing is printed then). */
int table_print(const struct table *t, FILE *to);

#endif
