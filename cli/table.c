#include "cli/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *t, const char *align)
{
    *t = (struct table){ .columns = (int)strlen(align) };
    assert(t->columns > 0 && t->columns <= TABLE_MAX_COLUMNS);
    for (int i = 0; i < t->columns; i++)
        if (align[i] == 'r')
            t->right |= 1u << i;
}

void table_done(struct table *t)
{
    for (int i = 0; i < t->cells; i++)
        free(t->cell[i]);
    free(t->cell);
    *t = (struct table){ 0 };
}

void table_add(struct table *t, const char *fmt, ...)
{
    if (t->failed)
        return;
    if (t->cells == t->capacity) {
        const int capacity = t->capacity > 0 ? 2 * t->capacity : 64;
        char **cell = realloc(t->cell, (size_t)capacity * sizeof *cell);
        if (!cell) {
            t->failed = -ENOMEM;
            return;
        }
        t->cell = cell;
        t->capacity = capacity;
    }

    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&t->cell[t->cells], fmt, ap) < 0)
        t->failed = -ENOMEM;
    else
        t->cells++;
    va_end(ap);
}

/* Columns that the text takes on a terminal: bytes that do not continue a UTF-8 character. */
static int text_width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void print_cell(const struct table *t, int i, int width, FILE *to)
{
    const int column = i % t->columns, gap = width - text_width(t->cell[i]);
    const int is_last = column == t->columns - 1 || i == t->cells - 1;

    if (column > 0)
        fputs("  ", to);
    if (t->right & 1u << column)
        fprintf(to, "%*s%s", gap, "", t->cell[i]);
    else
        fprintf(to, "%s%*s", t->cell[i], is_last ? 0 : gap, "");
    if (is_last)
        fputc('\n', to);
}

int table_print(const struct table *t, FILE *to)
{
    int width[TABLE_MAX_COLUMNS] = { 0 };

    if (t->failed)
        return t->failed;
    for (int i = 0; i < t->cells; i++) {
        const int w = text_width(t->cell[i]);
        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    for (int i = 0; i < t->cells; i++)
        print_cell(t, i, width[i % t->columns], to);
    return 0;
}
