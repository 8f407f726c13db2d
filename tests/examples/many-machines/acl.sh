redis-cli ACL SETUSER notnow on '>secret' '~notnow:*' '&notnow:*' -@all +@read +@write -@dangerous \
    +evalsha +script +time +publish +subscribe +unsubscribe "+pubsub|numsub" +ping +info +client
