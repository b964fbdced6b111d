/** serialport as a module of ours, for an import() in the middle: a bundle gives that no names of a package that is CommonJS. */
export { SerialPort } from 'serialport';
