-- Changes the witness of one shard, or the shard as a whole.
-- KEYS: cells, nodes
-- ARGV: what, generation, epoch, then by what:
--   stamp             the writer's epoch becomes the shard's
--   reset, witness    nothing is left but this witness
--   ready, fill       a shard that has all fill batches before `fill` becomes ready
--   forget, time      a shard that is ready may forget events before `time`
--   drop              nothing is left
-- Reply: {OK, witness}; {LOST}; {FENCED, epoch}; {GAP, state, fill}.
local function less(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local what = ARGV[1]
local witness = redis.call('HGET', KEYS[1], '')
local ours = witness and #witness == 50 and string.sub(witness, 1, 17) == '\2' .. ARGV[2]
if ours then
  local epoch = string.sub(witness, 18, 25)
  if less(ARGV[3], epoch) then return {'FENCED', epoch} end
end
if what == 'reset' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], '', ARGV[4])
  return {'OK', ARGV[4]}
end
if what == 'drop' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  return {'OK', ''}
end
if not ours then return {'LOST'} end
local state = string.sub(witness, 26, 26)
if what == 'ready' and state == '\0' then
  if string.sub(witness, 35, 42) ~= ARGV[4] then
    return {'GAP', state, string.sub(witness, 35, 42)}
  end
  state = '\1'
end
local kept_from = string.sub(witness, 43)
if what == 'forget' and state == '\1' and less(kept_from, ARGV[4]) then kept_from = ARGV[4] end
local new = string.sub(witness, 1, 17) .. ARGV[3] .. state .. string.sub(witness, 27, 42) .. kept_from
if new ~= witness then redis.call('HSET', KEYS[1], '', new) end
return {'OK', new}
