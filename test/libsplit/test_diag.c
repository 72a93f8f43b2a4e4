#include "libsplit/diag.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(diag, writes_the_sentence_and_gives_the_error)
{
    struct diag why;

    cr_assert_eq(diag(&why, -EINVAL, "%s: %d nodes", "a.json", 17), -EINVAL);
    cr_assert_str_eq(why.text, "a.json: 17 nodes");
    cr_assert_eq(diag(NULL, -ENOMEM, "nobody listens"), -ENOMEM);
}

Test(diag, cuts_off_what_is_too_long)
{
    struct diag why;

    diag(&why, -EINVAL, "%2000d", 1);
    cr_assert_eq(strlen(why.text), sizeof why.text - 1);
}

/* A name out of a hostile file must not steer the terminal or forge a line of the log. */
Test(diag, replaces_control_characters)
{
    struct diag why;

    diag(&why, -EINVAL, "%s", "\033[2J\nd\xc3\xb6g\x7f");
    cr_assert_str_eq(why.text, "?[2J?d\xc3\xb6g?");
}
