redis.call('UNLINK', transitions, newest_stamp, refused_transitions)
return 1
