# Markdown table of medians. First input: lines `text|measure|unit|floor measure`; second: measurements
# `tool <tab> measure <tab> value`. Ratios are to the first tool.

function median(key,    n, i, j, x, v) {
    n = count[key]
    if (!n) return ""
    for (i = 1; i <= n; i++) v[i] = value[key, i]
    for (i = 2; i <= n; i++) {
        x = v[i]
        for (j = i - 1; j >= 1 && v[j] > x; j--) v[j + 1] = v[j]
        v[j + 1] = x
    }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

function show(x, unit) {
    if (x == "") return ""
    if (unit == "s") return x < 10 ? sprintf("%.2f s", x) : sprintf("%.1f s", x)
    if (unit == "MiB") return sprintf("%.0f MiB", x)
    if (x < 1e6) return sprintf("%.0f kB", x / 1e3)
    return x < 1e8 ? sprintf("%.2f MB", x / 1e6) : sprintf("%.0f MB", x / 1e6)
}

FNR == NR { lines[++line_count] = $0; next }
{
    split($0, field, "\t")
    key = field[1] SUBSEP field[2]
    value[key, ++count[key]] = field[3] + 0
}

END {
    tool_count = split(tools, tool, " ")
    split(headings, heading, "|")
    head = "| |"; rule = "|---|"
    for (t = 1; t <= tool_count; t++) { head = head " " heading[t] " |"; rule = rule "---|" }
    print head " floor |"; print rule "---|"
    for (l = 1; l <= line_count; l++) {
        split(lines[l], part, "|")
        row = "| " part[1] " |"; any = 0
        base = median(tool[1] SUBSEP part[2])
        for (t = 1; t <= tool_count; t++) {
            x = median(tool[t] SUBSEP part[2])
            if (x != "") any = 1
            row = row " " show(x, part[3])
            if (t > 1 && base > 0 && x != "") row = row sprintf(" (%.1fx)", x / base)
            row = row " |"
        }
        floor = part[4] == "" ? "" : median("floor" SUBSEP part[4])
        if (any) print row " " show(floor, part[3]) " |"
    }
    print ""
    print "Floors: `openssl dgst -sha256` of the database for snapshots, `cp` for restores. Ratios are to " heading[1] "."
}
