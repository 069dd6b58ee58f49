return redis.call('HGETALL', tag .. ':connections')
