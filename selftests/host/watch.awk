# SPDX-License-Identifier: GPL-2.0
#
# awk -v port=HEX -f watch.awk: what a host does while a machine comes to it, by lines: the time since the beginning, how much of
# it was idle since the line before, what memory is left, what the port's connections hold that was not read, and the threads that
# ran most, each with its share of one CPU and where in the kernel it stands.

function first(file,   line) {
	line = ""
	getline line <file
	close(file)
	return line
}

# Clock ticks of all CPUs so far
function cpu_time(   f, n, i) {
	n = split(first("/proc/stat"), f, " ")
	idle = f[5] + f[6]
	total = 0
	for (i = 2; i <= 9; i++)
		total += f[i]
}

function free_mib(   line, f) {
	while ((getline line <"/proc/meminfo") > 0)
		if (line ~ /^MemFree/)
			split(line, f, " ")
	close("/proc/meminfo")
	return int(f[2] / 1024)
}

function unread(   line, f, q, all) {
	all = ""
	while ((getline line <"/proc/net/tcp") > 0) {
		split(line, f, " ")
		if (f[2] ~ ":" port "$" && f[4] == "01") {
			split(f[5], q, ":")
			all = all " 0x" q[2]
		}
	}
	close("/proc/net/tcp")
	return all
}

# The innermost two functions
function where(task,   line, f, text, n) {
	text = ""
	for (n = 0; n < 2 && (getline line <(task "/stack")) > 0; n++) {
		split(line, f, "[ +]+")
		text = text " " f[2]
	}
	close(task "/stack")
	return text
}

# Most first, three of them
function busiest(ticks,   task, line, name, f, ran, text, i, most) {
	while (("ls -d /proc/[0-9]*/task/[0-9]*" | getline task) > 0) {
		line = first(task "/stat")
		if (line == "")
			continue
		name = line
		sub(/^[^(]*\(/, "", name)
		sub(/\).*/, "", name)
		sub(/^.*\) /, "", line)
		split(line, f, " ")
		now[task] = f[12] + f[13]
		if (task in before && now[task] > before[task]) {
			ran[task] = now[task] - before[task]
			names[task] = name
		}
		before[task] = now[task]
	}
	close("ls -d /proc/[0-9]*/task/[0-9]*")
	text = ""
	for (i = 0; i < 3; i++) {
		most = ""
		for (task in ran)
			if (most == "" || ran[task] > ran[most])
				most = task
		if (most == "")
			break
		text = text sprintf("; %s %d %%%s", names[most], ran[most] * 100 / ticks, where(most))
		delete ran[most]
	}
	return text
}

BEGIN {
	split(first("/proc/uptime"), f, " ")
	began = f[1]
	cpu_time()
	busiest(1)
	for (;;) {
		was_idle = idle
		was_total = total
		system("sleep 3")
		cpu_time()
		split(first("/proc/uptime"), f, " ")
		ticks = total - was_total
		if (ticks > 0)
			printf "%d s: %d %% idle, %d MiB free, unread:%s%s\n", f[1] - began, (idle - was_idle) * 100 / ticks, free_mib(), unread(), busiest(ticks)
		fflush()
	}
}
