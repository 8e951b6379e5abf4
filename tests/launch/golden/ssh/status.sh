# Says how the driver is (running, none, killed or its exit code) and whether this host's node lives.
. "$(dirname "$0")/env.sh"
driver=none
[ ! -e "$here/driver.session" ] || driver=killed
[ ! -s "$here/driver.exit" ] || driver=$(cat "$here/driver.exit")
! lives driver || driver=running
node=gone
! lives node || node=alive
echo "$driver $node"
