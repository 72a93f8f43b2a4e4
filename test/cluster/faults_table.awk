#!/usr/bin/awk -f
# Part of faults.sh: faults_table.awk RUNS LOAD-LOG prints what each fault did to the requests.
#
# RUNS has a line per run: begin, end, bound, name of the fault.  LOAD-LOG has a line per request: begin,
# end, verdict (test/cluster/load.c).  A request belongs to every run during which it was under way.

FNR == NR {
    n++
    from[n] = $1
    to[n] = $2
    name = $0
    sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", name)
    fault[n] = name
    if (!(name in runs))
        order[++faults] = name
    runs[name]++
    bound[name] = $3
    next
}

{
    took = $2 - $1
    for (i = 1; i <= n; i++) {
        if (from[i] > $2)
            break
        if ($1 > to[i])
            continue
        asked[i]++
        if ($3 == "lost")
            lost[fault[i]]++
        if ($3 == "wrong")
            wrong[fault[i]]++
        if (took > slowest[i])
            slowest[i] = took
        if (i == 1)
            calm[++ncalm] = took
    }
}

function sort(a, len,    i, j, x) {
    for (i = 2; i <= len; i++) {
        x = a[i]
        for (j = i - 1; j >= 1 && a[j] > x; j--)
            a[j + 1] = a[j]
        a[j + 1] = x
    }
}

END {
    sort(calm, ncalm)
    usual = calm[int((ncalm + 1) / 2)]
    printf "%-34s %5s %5s %6s %11s %11s %9s\n", "fault", "runs", "lost", "wrong", "median s", "worst s", "allowed s"
    for (f = 1; f <= faults; f++) {
        name = order[f]
        k = 0
        for (i = 1; i <= n; i++)
            if (fault[i] == name)
                late[++k] = slowest[i] > usual ? slowest[i] - usual : 0
        sort(late, k)
        printf "%-34s %5d %5d %6d %11.2f %11.2f %9s\n", name, k, lost[name], wrong[name], \
            late[int((k + 1) / 2)], late[k], bound[name]
        verdict = lost[name] + wrong[name] > 0 || (bound[name] != "-" && late[k] > bound[name])
        checks = checks sprintf("= %s %s: %d lost, %d wrong, %.2f s late\n", verdict ? "fail" : "pass", \
            name, lost[name], wrong[name], late[k])
        for (i = 1; i <= n; i++)
            if (fault[i] == name && asked[i] == 0)
                checks = checks sprintf("= fail %s: no request was under way\n", name)
    }
    printf "usual latency: %.3f s (median)\n", usual
    printf "%s", checks
}
