# Runs one attempt and outlives whoever started it:  sh shim.sh ATTEMPT_DIRECTORY WORKING_DIRECTORY SHELL
#
# Standard output is the attempt's log. The shim's own complaints go nowhere; its exit code tells its starter what went wrong:
#   0    the script's exit code is in the file `started`
#   120  another shim has taken this attempt; nothing was run
#   121  the mark `started` or the exit code could not be written
#   122  the working directory is gone
#
# Variables of its own have long names, because the script inherits every exported name that the shim would assign to.
# The braces make the shell read all of this before it runs any of it, so that an upgrade can't change it half way.
{
	# Caught, not ignored: the script starts with the default action, and the shim lives on to write the exit code.
	trap : HUP INT QUIT TERM

	# What the starter itself inherited from elsewhere must not stay open for as long as the job runs.
	exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-

	stretto_shim_attempt=$1 stretto_shim_place=$2 stretto_shim_shell=$3

	# Whoever makes this file runs the script, and nobody else ever does.
	set -C
	if ! echo "$$" >"$stretto_shim_attempt/started"; then
		[ -e "$stretto_shim_attempt/started" ] && exit 120
		exit 121
	fi
	set +C
	set --

	cd "$stretto_shim_place" || exit 122
	# Redirected in the child, so that what the shim's shell says of a child's death ("Terminated") stays out of the log.
	(exec "$stretto_shim_shell" -e "$stretto_shim_attempt/script" 2>&1)
	stretto_shim_code=$?
	if [ -e "$stretto_shim_attempt/after" ]; then
		(exec "$stretto_shim_shell" -e "$stretto_shim_attempt/after" 2>&1)
	fi

	# The file has its block already: a line more needs no room on a full disk.
	echo "$stretto_shim_code" >>"$stretto_shim_attempt/started" || exit 121
	exit 0
}
