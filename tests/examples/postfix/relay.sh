# relay.sh HOST PORT: a Postfix of its own, in a directory of its own, takes one mail there. To be run by root.
set -eu
home=$(mktemp -d)

# A program that was killed may have left the shared clock locked: what ends Postfix goes without that clock.
stop() {
  unset LD_PRELOAD
  if test -s "$home/queue/pid/master.pid"; then
    read -r master <"$home/queue/pid/master.pid"
    kill -KILL $! "-$master"
  fi
  rm -rf "$home"
}
trap stop EXIT
trap 'exit 1' INT TERM

mkdir "$home/etc" "$home/queue" "$home/data" "$home/log"

# Debian's services but for the one that listens, and the schedule as it comes. The time-outs of the network would
# shrink with the clock, five minutes to a third of a second: here they are as long as an hour.
touch "$home/etc/main.cf"
cp /usr/share/postfix/master.cf.dist "$home/etc/master.cf"
export MAIL_CONFIG="$home/etc" PATH="$PATH:/usr/sbin"
postconf -MX smtp/inet
postconf -F '*/*/chroot=n'
postconf compatibility_level=3.6 myhostname=relay.test mydestination= relayhost="[$1]:$2" inet_protocols=ipv4 \
  queue_directory="$home/queue" data_directory="$home/data" maillog_file="$home/log/mail" maillog_file_prefixes="$home" \
  smtp_host_lookup=native smtp_connect_timeout=0 smtp_helo_timeout=1h smtp_mail_timeout=1h smtp_rcpt_timeout=1h \
  smtp_data_init_timeout=1h smtp_data_xfer_timeout=1h smtp_data_done_timeout=1h \
  import_environment='MAIL_CONFIG LD_PRELOAD FAKETIME FAKETIME_SHARED NO_FAKE_STAT'

# The daemons run as other users, and have to share the fake clock; the times of queue files are left as they are.
chmod 755 "$home"
chown postfix "$home/data"
for name in ${FAKETIME_SHARED:-}; do
  chmod 666 /dev/shm/*"${name#/}"
done
export NO_FAKE_STAT=1

postfix start-fg &
until test -e "$home/queue/public/pickup"; do
  sleep 60
done
printf 'Subject: hi\n\nHello!\n' | sendmail -f me@relay.test you@example.net
until grep -qs ': removed$' "$home/log/mail"; do
  sleep 60
done
