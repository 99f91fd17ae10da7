# The first process of a machine. Its mounts are its own; nothing in it reaches those of the machine that it runs on.
# Arguments: the directory of the machine's files, its name, its cgroup. The file "hierarchies" has a line for each hierarchy of
# cgroups: DIR TYPE OPTIONS.
set -eu
files=$1 name=$2 group=$3
if [ "${4-}" != inside ]; then
	# The top of what it sees of the cgroups is the one that it is in when their namespace is made.
	while read -r dir type options; do
		echo 0 >"$dir/$group/cgroup.procs"
	done <"$files/hierarchies"
	exec unshare --cgroup /bin/sh "$files/machine.sh" "$files" "$name" "$group" inside
fi
mount -t proc proc /proc
echo "$name" >/proc/sys/kernel/hostname
mount -t sysfs sysfs /sys
first=$(head -n 1 "$files/hierarchies" | cut -d' ' -f2)
[ "$first" = cgroup2 ] || mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
while read -r dir type options; do
	mkdir -p "$dir"
	if [ "$type" = cgroup ]; then
		mount -t cgroup -o "$options" cgroup "$dir"
	else
		mount -t cgroup2 cgroup2 "$dir"
	fi
	# On a single tree a group that others are below may not have processes of its own.
	echo 0 >"$dir/init/cgroup.procs"
done <"$files/hierarchies"
mount -t tmpfs -o mode=755 run /run
mount -t overlay -o "lowerdir=/etc,upperdir=$files/etc,workdir=$files/etc.work" overlay /etc
mount --bind "$files/opt" /opt
mount --bind "$files/var" /var
mount --make-rshared /
ip link set lo up
echo ready
# It is the parent of all that lose theirs, and waits for them.
while :; do
	sleep 3600 &
	wait $! || true
done
