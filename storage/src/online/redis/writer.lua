-- Who may write: the database's record.
-- KEYS: database, spaces
-- ARGV: what, format, database, shards, token, holder, lease in ms, epoch, generation, subject
--   open     takes the next epoch, unless another database is here or another holder has a lease
--   keep     renews the lease of the writer with this token and epoch, and restores a lost record
--   release  ends the lease
--   add, remove  as keep, and changes the set of spaces by the subject
--   document  as keep, and keeps the subject
-- Reply: {OK, epoch, generation}; {FORMAT, found}; {DATABASE, found}; {SHARDS, found};
--        {LEASED, holder, ms left}; {FENCED, epoch}.
local what = ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = redis.call('HMGET', KEYS[1], 'format', 'database', 'shards', 'token', 'holder', 'until',
  'epoch', 'generation')
local exists = found[1] ~= false
if exists and found[1] ~= ARGV[2] then return {'FORMAT', found[1]} end
if exists and found[2] ~= ARGV[3] then return {'DATABASE', found[2] or ''} end
if exists and found[3] ~= ARGV[4] then return {'SHARDS', found[3] or ''} end
local left = (tonumber(found[6] or '0') or 0) - now
local epoch = tonumber(found[7] or '0') or 0
local generation = found[8] or ARGV[9]

if what == 'open' then
  if exists and left > 0 and found[5] ~= ARGV[6] then return {'LEASED', found[5], string.format('%.0f', left)} end
  epoch = epoch + 1
else
  local mine = tonumber(ARGV[8])
  -- A record of an earlier epoch came back with an older state, unless its writer is alive: then
  -- all was lost, and that writer began anew. Our own earlier self is not alive.
  local alive = left > 0 and found[5] ~= ARGV[6]
  if exists and found[4] ~= ARGV[5] and (epoch >= mine or alive) then
    return {'FENCED', string.format('%.0f', epoch)}
  end
  if what == 'release' then
    if exists and found[4] == ARGV[5] then redis.call('HSET', KEYS[1], 'until', '0') end
    return {'OK', string.format('%.0f', mine), generation}
  end
  epoch = mine
  generation = ARGV[9]
end
redis.call('HSET', KEYS[1], 'format', ARGV[2], 'database', ARGV[3], 'shards', ARGV[4],
  'token', ARGV[5], 'holder', ARGV[6], 'until', string.format('%.0f', now + tonumber(ARGV[7])),
  'epoch', string.format('%.0f', epoch), 'generation', generation)
if what == 'add' then redis.call('SADD', KEYS[2], ARGV[10]) end
if what == 'document' then redis.call('HSET', KEYS[1], 'document', ARGV[10]) end
if what == 'remove' then redis.call('SREM', KEYS[2], ARGV[10]) end
return {'OK', string.format('%.0f', epoch), generation}
