return redis.call('SMEMBERS', enlisted)
