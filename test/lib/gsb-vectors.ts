/** Bodies and the bytes that upstream's encoder makes of them: the spec's exe-unit.md, 2.6, and more of the same kind. */
import { type Flex, FlexFloat, FlexInt, FlexUInts } from '../../host/gsb/types.ts';

export interface FlexVector {
  name: string;
  value: Flex;
  hex: string;
}

const TIMESTAMP = '2023-11-14T22:13:20';

const bytes = (...values: number[]) => Uint8Array.from(values);

function setState(activityId: string, pair: Flex, reason?: string): Flex {
  return { activityId, state: { state: pair, reason }, timeout: null, credentials: null };
}

function usage(...values: number[]): Flex {
  return { currentUsage: Float64Array.from(values), timestamp: new FlexInt(1_700_000_000) };
}

function setUsage(...values: number[]): Flex {
  return { activityId: 'a1', usage: usage(...values), timeout: null };
}

function event(index: number, kind: Flex): Flex {
  return { Ok: { batch_id: 'b1', index, timestamp: `${TIMESTAMP}.123456789`, kind } };
}

/** Keys stand in the order of the Rust structs' fields, in which they are written. */
export const FLEX_VECTORS: readonly FlexVector[] = [
  {
    name: 'unit ()',
    value: null,
    hex: '000001',
  },
  {
    name: 'bool true',
    value: true,
    hex: '016801',
  },
  {
    name: 'u64 300',
    value: 300,
    hex: '2c010902',
  },
  {
    name: 'i64 -2',
    value: -2,
    hex: 'fe0401',
  },
  {
    name: 'f64 1.5',
    value: 1.5,
    hex: '0000c03f0e04',
  },
  {
    name: 'f64 0.1',
    value: 0.1,
    hex: '9a9999999999b93f0f08',
  },
  {
    name: 'f64 0.0',
    value: new FlexFloat(0),
    hex: '000000000e04',
  },
  {
    name: 'string hi',
    value: 'hi',
    hex: '02686900031401',
  },
  {
    name: 'tuple (u64,u64) (0,1)',
    value: [0, 1],
    hex: '0001024401',
  },
  {
    name: 'Vec<u8> []',
    value: new FlexUInts(bytes()),
    hex: '00002801',
  },
  {
    name: 'Vec<u8>[1]',
    value: new FlexUInts(bytes(1)),
    hex: '0101013001',
  },
  {
    name: 'Vec<u8>[1,2]',
    value: new FlexUInts(bytes(1, 2)),
    hex: '0102024401',
  },
  {
    name: 'Vec<u8> [1..5]',
    value: new FlexUInts(bytes(1, 2, 3, 4, 5)),
    hex: '050102030405053001',
  },
  {
    name: 'Vec<f64> [1.5,0.1]',
    value: Float64Array.of(1.5, 0.1),
    hex: '000000000000f83f9a9999999999b93f104b01',
  },
  {
    name: 'Vec<f64> 5',
    value: Float64Array.of(0, 1, 2, 3, 4.5),
    hex: '05000000000000000000803f000000400000404000009040143601',
  },
  {
    name: 'Vec<String>',
    value: ['a', 'bc'],
    hex: '016100026263000207051414042801',
  },
  {
    name: 'HashMap empty',
    value: {},
    hex: '00000100002401',
  },
  {
    name: 'BTreeMap',
    value: { a: 2, b: 1 },
    hex: '6100620002050402010202010808042401',
  },
  {
    name: 'Ok(())',
    value: { Ok: null },
    hex: '4f6b0001040101010000022401',
  },
  {
    name: 'Ok(batch)',
    value: { Ok: 'b1' },
    hex: '4f6b000262310001080101010814022401',
  },
  {
    name: 'Err BadRequest',
    value: { Err: { badRequest: 'x' } },
    hex: '457272006261645265717565737400017800010f0101010714011a0101010724022401',
  },
  {
    name: 'Err Timeout',
    value: { Err: 'timeout' },
    hex: '457272000774696d656f757400010e0101010d14022401',
  },
  {
    name: 'SetState Initialized',
    value: setState('a1', ['Initialized', null]),
    hex: '6163746976697479496400026131007374617465000b496e697469616c697a656400020d0014000119010101092874696d656f75740063726564656e7469616c730004430e36180401043e00200014002400082401',
  },
  {
    name: 'SetState Initialized real id',
    value: setState('0123456789abcdef0123456789abcdef', ['Initialized', null]),
    hex: '6163746976697479496400203031323334353637383961626364656630313233343536373839616263646566007374617465000b496e697469616c697a656400020d0014000119010101092874696d656f75740063726564656e7469616c730004610e36180401045c00200014002400082401',
  },
  {
    name: 'SetState Init->Deployed',
    value: setState('a1', ['Initialized', 'Deployed']),
    hex: '6163746976697479496400026131007374617465000b496e697469616c697a656400084465706c6f7965640002170b14140123010101092874696d656f75740063726564656e7469616c7300044d0e40180401044800200014002400082401',
  },
  {
    name: 'SetState Terminated',
    value: setState('a1', ['Terminated', null], 'Finished'),
    hex: '6163746976697479496400026131007374617465000a5465726d696e6174656400020c001400726561736f6e000846696e69736865640002122a0201020f1c142874696d656f75740063726564656e7469616c730004560e49180401045100220014002400082401',
  },
  {
    name: 'SetUsage',
    value: setUsage(1.5, 0.1),
    hex: '61637469766974794964000261310075736167650063757272656e74557361676500000000000000000000000000f83f9a9999999999b93f74696d657374616d7000022e0c0000000500000001000000020000002c00000000f153654b0674696d656f75740003670a5a03010361001b140026062401',
  },
  {
    name: 'SetUsage4',
    value: setUsage(0, 2, 0.5, 0.25),
    hex: '61637469766974794964000261310075736167650063757272656e74557361676500000000000000000000400000003f0000803e74696d657374616d7000022a0c0000000500000001000000020000002c00000000f15365620674696d656f75740003630a560301035d001b140026062401',
  },
  {
    name: 'GetState',
    value: { activityId: 'a1', timeout: null },
    hex: '61637469766974794964000261310074696d656f75740002180a02010211001400042401',
  },
  {
    name: 'GetState reply',
    value: { Ok: { state: ['Ready', null] } },
    hex: '4f6b0073746174650005526561647900020700140001130101010928011d0101010724022401',
  },
  {
    name: 'GetUsage reply',
    value: { Ok: usage(1.5, 0.1) },
    hex: '4f6b0063757272656e74557361676500000000000000f83f9a9999999999b93f74696d657374616d700002280c0000000500000001000000020000002c00000000f153654b0601470101010f26022401',
  },
  {
    name: 'Exec deploy,start,run',
    value: {
      activityId: 'a1',
      batchId: 'b1',
      exeScript: [
        { deploy: { net: [], hosts: {}, hostname: null, env: {}, progress: null } },
        { start: { args: [] } },
        {
          run: {
            entry_point: '/bin/sh',
            args: ['-c', 'ls'],
            capture: { stdout: { stream: {} }, stderr: { atEnd: { head: 10, format: 'str' } } },
          },
        },
      ],
      timeout: null,
    },
    hex: '616374697669747949640002613100626174636849640002623100657865536372697074006465706c6f79006e65740000686f7374730000000100686f73746e616d6500656e76000000010070726f67726573730005121c272d0e0501051200253000240024280001440101010f24737461727400617267730000010701010105280114010101072472756e00656e7472795f706f696e7400072f62696e2f736800022d6300026c7300020805141463617074757265007374646f75740073747265616d0000000100010c0101010524737464657272006174456e64006865616400666f726d6174000373747200020d130201020a0a14080122010101092402304a0201020838242403955c7f030103650c78282414018e0101010b2403b1980524242474696d656f75740004002e012101170110000800020004003001260122000000141428010c2501',
  },
  {
    name: 'Exec terminate',
    value: { activityId: 'a1', batchId: 'b1', exeScript: [{ terminate: {} }], timeout: new FlexFloat(5) },
    hex: '616374697669747949640002613100626174636849640002623100657865536372697074007465726d696e6174650000000100010f010101052401032474696d656f7574000446382d0c00000600000001000000040000004c00000044000000250000000000a0401414280e142601',
  },
  {
    name: 'Cmd transfer',
    value: {
      transfer: {
        from: 'http://x/y',
        to: 'container:/z',
        format: null,
        depth: null,
        fileset: null,
        progress: { updateInterval: '300ms', updateStep: null },
      },
    },
    hex: '7472616e736665720066726f6d000a687474703a2f2f782f7900746f000c636f6e7461696e65723a2f7a00666f726d61740064657074680066696c657365740070726f677265737300757064617465496e74657276616c00053330306d7300757064617465537465700002220d0201021700140006433e4c6f3960060106000000721265000000142414018b0101011124022401',
  },
  {
    name: 'Volumes detailed',
    value: { '/s': { storage: { size: 0x200000000 } } },
    hex: '2f730073746f726167650073697a6500010600000000000007000000000000000100000000000000010000000000000000000000020000000b01370101010e2701410101010724022401',
  },
  {
    name: 'Volumes simple',
    value: ['/in'],
    hex: '032f696e00010514022801',
  },
  {
    name: 'GetExecBatchResults',
    value: { activityId: 'a1', batchId: 'b1', timeout: new FlexFloat(5), commandIndex: null },
    hex: '61637469766974794964000261310062617463684964000262310074696d656f757400636f6d6d616e64496e6465780004312310190000000700000001000000040000003800000030000000000000000000a0401414020e142601',
  },
  {
    name: 'Result<Vec<Res>>',
    value: {
      Ok: [
        {
          index: 0,
          result: 'Ok',
          stdout: 'hi\n',
          stderr: null,
          message: null,
          isBatchFinished: true,
          eventDate: `${TIMESTAMP}.123456789Z`,
        },
      ],
    },
    hex: '4f6b00696e64657800726573756c7400024f6b007374646f7574000368690a00737464657272006d657373616765006973426174636846696e6973686564006576656e7444617465001e323032332d31312d31345432323a31333a32302e3132333435363738395a00072b683d46654f5c0701072a00010067005e14086800140014010f2401860101010728022401',
  },
  {
    name: 'Result<Vec<Res>> empty',
    value: { Ok: [] },
    hex: '4f6b000001050101010528022401',
  },
  {
    name: 'Res bin',
    value: {
      index: 0,
      result: 'Error',
      stdout: new FlexUInts(bytes(104, 105, 10, 0, 1)),
      stderr: null,
      message: 'm',
      isBatchFinished: true,
      eventDate: `${TIMESTAMP}Z`,
    },
    hex: '696e64657800726573756c7400054572726f72007374646f7574000568690a0001737464657272006d65737361676500016d006973426174636846696e6973686564006576656e74446174650014323032332d31312d31345432323a31333a32305a00072165333f62485607010720000140640058140868141400300e2401',
  },
  {
    name: 'Stream req',
    value: { activity_id: 'a1', batch_id: 'b1' },
    hex: '61637469766974795f6964000261310062617463685f69640002623100021e0f020102160a1414042401',
  },
  {
    name: 'Stream item stdout',
    value: event(0, { stdout: 'hi\n' }),
    hex: '4f6b0062617463685f69640002623100696e6465780074696d657374616d70001d323032332d31312d31345432323a31333a32302e313233343536373839006b696e64007374646f7574000368690a00010d01010109140455491b4504010452000c411408241401680101010d24022401',
  },
  {
    name: 'Stream item finished',
    value: event(0, { finished: { return_code: new FlexInt(0), message: null } }),
    hex: '4f6b0062617463685f69640002623100696e6465780074696d657374616d70001d323032332d31312d31345432323a31333a32302e313233343536373839006b696e640066696e69736865640072657475726e5f636f6465006d65737361676500020916020102000000040128010101092404706436600401046d000c5c1408241401830101010d24022401',
  },
  {
    name: 'Stream item progress',
    value: event(0, { progress: { step: [0, 1], message: null, progress: [1024, 4096], unit: 'Bytes' } }),
    hex: '4f6b0062617463685f69640002623100696e6465780074696d657374616d70001d323032332d31312d31345432323a31333a32302e313233343536373839006b696e640070726f677265737300737465700000016d6573736167650000040010756e6974000542797465730004192a2210040104001924110045441401390101010d2404817547710401047e000c6d1408241401940101010d24022401',
  },
  {
    name: 'Stream item started',
    value: event(1, { started: { command: { start: { args: [] } } } }),
    hex: '4f6b0062617463685f69640002623100696e6465780074696d657374616d70001d323032332d31312d31345432323a31333a32302e313233343536373839006b696e64007374617274656400636f6d6d616e640073746172740061726773000001070101010528011401010107240123010101072401320101010724047a6e406a04010477010c6614082414018d0101010d24022401',
  },
  {
    name: 'GetMetadata',
    value: null,
    hex: '000001',
  },
  {
    name: 'GftpMetadata reply',
    value: { Ok: { fileSize: 100000 } },
    hex: '4f6b0066696c6553697a6500010a0000030000000100000001000000a08601000a01220101010a26022401',
  },
  {
    name: 'GetChunk',
    value: { offset: 40960, size: 40960 },
    hex: '6f66667365740073697a6500020d070003000100020000a000a00909062501',
  },
  {
    name: 'GftpChunk reply',
    value: { Ok: { offset: 0, content: bytes(1, 2, 3) } },
    hex: '4f6b006f666673657400636f6e74656e740003010203020d150201020900640801210101010924022401',
  },
  {
    name: 'UploadChunk',
    value: { chunk: { offset: 0, content: bytes(1, 2, 3) } },
    hex: '6368756e6b006f666673657400636f6e74656e740003010203020d150201020900640801240101010924022401',
  },
  {
    name: 'UploadFinished',
    value: { hash: 'ab' },
    hex: '686173680002616200010a0101010814022401',
  },
  {
    name: 'gftp Err',
    value: { Err: 'IntegrityError' },
    hex: '457272000e496e746567726974794572726f720001150101011414022401',
  },
  {
    name: 'identity Get',
    value: 'byDefault',
    hex: '09627944656661756c74000a1401',
  },
  {
    name: 'identity reply',
    value: {
      Ok: {
        alias: null,
        nodeId: '0xbabe000000000000000000000000000000000000',
        isLocked: false,
        isDefault: true,
        deleted: false,
      },
    },
    hex: '4f6b00616c696173006e6f64654964002a3078626162653030303030303030303030303030303030303030303030303030303030303030303030300069734c6f636b656400697344656661756c740064656c657465640005550a151f5305010500000100530068686814016b0101010f24022401',
  },
  {
    name: 'VpnControl add',
    value: { addNodes: { network_id: 'n1', nodes: { '192.168.0.2': '0xab' } } },
    hex: '6164644e6f646573006e6574776f726b5f696400026e31006e6f646573003139322e3136382e302e320004307861620001130101010a14022f210201022809142401420101010924022401',
  },
  {
    name: 'VpnControl rm',
    value: { removeNodes: { network_id: 'n1', node_ids: ['0xab'] } },
    hex: '72656d6f76654e6f646573006e6574776f726b5f696400026e31006e6f64655f696473000430786162000106140222140201021b09142801380101010924022401',
  },
  {
    name: 'VpnPacket',
    value: new FlexUInts(bytes(1, 2, 3, 4, 5)),
    hex: '050102030405053001',
  },
  {
    name: 'Running',
    value: { Ok: [{ command: 'Start', params: [] }] },
    hex: '4f6b00636f6d6d616e640005537461727400706172616d73000002180a0201021407142801052401280101010728022401',
  },
];
